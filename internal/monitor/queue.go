package monitor

import "sync"

// queue is lines of output that wait to be written to the log, where the container
// must not wait for that: what is too much is left out.
type queue struct {
	max  int64         // bytes
	done chan struct{} // closed by the writer at its end

	mu     sync.Mutex
	filled *sync.Cond
	lines  []*stream
	size   int64
	closed bool
}

func newQueue(max int64) *queue {
	q := &queue{max: max, done: make(chan struct{})}
	q.filled = sync.NewCond(&q.mu)
	return q
}

// put adds a line, if there is room for it, or nothing else waits.
func (q *queue) put(s *stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := int64(len(s.line)); len(q.lines) == 0 || q.size+n <= q.max {
		q.lines, q.size = append(q.lines, s), q.size+n
	}
	q.filled.Signal()
}

// take gives all lines, once there are any; none when the queue is closed.
func (q *queue) take() []*stream {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lines) == 0 && !q.closed {
		q.filled.Wait()
	}
	lines := q.lines
	q.lines, q.size = nil, 0
	return lines
}

// close lets take end once all lines are taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.filled.Signal()
}
