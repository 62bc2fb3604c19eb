package record

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// TestDenialsOnly sees all kinds of denials with the programs that record
// nothing else.
func TestDenialsOnly(t *testing.T) {
	recorder(t) // skips where nothing can be recorded
	r, err := OpenDenials()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	group := cgroup(t, fmt.Sprintf("record-denials-%d", os.Getpid()))
	target, err := CgroupTarget(group)
	if err != nil {
		t.Fatal(err)
	}
	target.AtExec = true
	dir, pid := files(t), victimOf(t)
	eachCase(t, func(t *testing.T, name string, c denialCase) {
		s := start(t, r, target)
		child := startChild(t, name, into(t, group), dir, strconv.Itoa(pid))
		if err := child.end(); (err != nil) != c.dies {
			t.Fatalf("the child: %v: %s", err, child.errs.String())
		}
		rec := stop(t, s)
		complete(t, rec)
		if !rec.DenialsOnly || len(rec.Syscalls) > 0 {
			t.Errorf("recorded: %+v", rec)
		}
		checkDenials(t, rec, c.want)
	})
}

// TestDenialsOnlyTargets: a recorder of denials does not look at who is there.
func TestDenialsOnlyTargets(t *testing.T) {
	recorder(t)
	r, err := OpenDenials()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, target := range []Target{{PID: os.Getpid()}, {Cgroup: 1}, {MountNS: 1, AtExec: true}} {
		if s, err := r.Start(target); err == nil {
			s.Stop()
			t.Errorf("%+v was taken", target)
		}
	}
}
