//go:build amd64

package record

import (
	"os/exec"
	"strconv"
	"sync"
	"testing"
)

// Recorders that begin at the same moment give the same tasks their first storage,
// in which the kernel lets one of them win: the other must not lose the task.
func TestTwoBeginAtOnce(t *testing.T) {
	recorder(t)
	recorders := []*Recorder{crowded(t), crowded(t)}
	for round := range 30 {
		cmd := exec.Command("/bin/sh", "-c", "for i in $(seq 40); do sleep 600 & done; echo up; wait")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		out.Read(make([]byte, 3))
		var both sync.WaitGroup
		begin := make(chan struct{})
		for i, r := range recorders {
			both.Go(func() {
				<-begin
				s, err := r.Start(Target{PID: cmd.Process.Pid})
				if err != nil {
					t.Error(err)
					return
				}
				if rec, err := s.Stop(); err != nil || !rec.Complete {
					t.Errorf("round %d, recorder %d: %v, lost %v", round, i, err, rec.Lost)
				}
			})
		}
		close(begin)
		both.Wait()
		exec.Command("pkill", "-KILL", "-P", strconv.Itoa(cmd.Process.Pid)).Run()
		cmd.Process.Kill()
		cmd.Wait()
	}
}
