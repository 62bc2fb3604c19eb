//go:build amd64

package record

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf/link"
)

// crowd makes recorder return crowded ones.
var crowd bool

// crowded returns a recorder whose seats are all taken, by nobody: the state of
// every task is in its storage.
func crowded(t testing.TB) *Recorder {
	t.Helper()
	r, err := Open(2, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if _, err := r.Start(Target{MountNS: 1}); err != nil { // so that nothing is detached, and the seats stay
		t.Fatal(err)
	}
	const nobody = 2
	if err := r.fillSeats(mapSeat{Regs: nobody}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var place uint32
		var seat mapSeat
		noticed := 0
		for all := r.coll.Maps["seats"].Iterate(); all.Next(&place, &seat); {
			if seat.Regs != nobody {
				t.Fatalf("seat %d is %x's", place, seat.Regs)
			}
			noticed += int(seat.Crowded)
		}
		if noticed == 0 {
			t.Error("nobody looked for a seat")
		}
	})
	return r
}

// TestCrowded: who finds no seat is recorded as everybody else.
func TestCrowded(t *testing.T) {
	crowd = true
	defer func() { crowd = false }()
	for name, test := range map[string]func(*testing.T){
		"threads": TestThreads, "processes": TestProcesses, "fork storm": TestForkStorm, "i386": TestI386,
		"denials": TestDenials, "descendants": TestDescendants, "in flight": TestInFlight,
	} {
		t.Run(name, test)
	}
}

// A seat is free again once its task has ended, be it recorded or not, and so is
// that of a recording that has ended.
func TestSeatsAreLeft(t *testing.T) {
	r, err := Open(1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	taken := func() (n int) {
		var place uint32
		var seat mapSeat
		for all := r.coll.Maps["seats"].Iterate(); all.Next(&place, &seat); {
			if seat.Regs != 0 {
				n++
			}
		}
		return n
	}
	for range 2 {
		c := startChild(t, "threads", nil)
		s := start(t, r, Target{PID: c.pid})
		if taken() == 0 {
			t.Error("a recorded task has no seat")
		}
		if err := exec.Command("/bin/true").Run(); err != nil {
			t.Fatal(err)
		}
		c.mustEnd()
		if n := taken(); n != 0 {
			t.Errorf("%d seats are taken, and no task is left", n)
		}
		c = startChild(t, "threads", nil)
		stop(t, s)
		s = start(t, r, Target{PID: c.pid})
		stop(t, s)
		c.mustEnd() // unseen
	}
	if _, err := r.Start(Target{MountNS: 1}); err != nil {
		t.Fatal(err)
	}
	if n := taken(); n != 0 {
		t.Errorf("%d seats are taken by tasks that ended unseen", n)
	}
}

// TestWalk: the walk through all tasks tells how many it took in, so that it can be
// repeated until nobody is new.
func TestWalk(t *testing.T) {
	c := startChild(t, "threads", nil)
	r := recorder(t)
	s := start(t, r, Target{MountNS: 1}) // nobody's
	target := Target{PID: c.pid}
	key, err := target.key()
	if err == nil {
		err = s.aim(target, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	iter, err := link.AttachIter(link.IterOptions{Program: r.coll.Programs["seed"]})
	if err != nil {
		t.Fatal(err)
	}
	defer iter.Close()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", c.pid))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{int64(len(threads)), 0} {
		if n, err := walk(iter); err != nil || n != want {
			t.Errorf("walk %d took in %d tasks, %v; want %d", i+1, n, err, want)
		}
	}
	c.mustEnd()
}
