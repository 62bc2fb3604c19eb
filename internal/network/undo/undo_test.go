package undo

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// noted makes a container's directory with the log of one address, whose file says
// who has it.
func noted(t *testing.T, owner string) (dir, address string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "c0ffee")
	address = filepath.Join(t.TempDir(), "10.0.0.2")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(address, []byte("container "+owner+"\nname x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var l Log
	l.Lock(filepath.Join(filepath.Dir(address), "no.lock"))
	l.Endpoint(address)
	if err := l.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir, address
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func TestPerform(t *testing.T) {
	dir, address := noted(t, "c0ffee")
	if err := Perform(dir); err != nil {
		t.Fatal(err)
	}
	if exists(address) || exists(filepath.Join(dir, File)) {
		t.Error("something is left")
	}
	if err := Perform(dir); err != nil {
		t.Errorf("with nothing to do: %v", err)
	}
}

// What is another's by now stays.
func TestPerformAnothers(t *testing.T) {
	dir, address := noted(t, "deadbeef")
	if err := Perform(dir); err != nil {
		t.Fatal(err)
	}
	if !exists(address) || exists(filepath.Join(dir, File)) {
		t.Error("another's address was freed, or the log stays")
	}
}

func TestPerformMalformed(t *testing.T) {
	dir, address := noted(t, "c0ffee")
	for _, b := range []string{"e", "e\xff\xff\xff\xff", "e\x01\x00\x00\x00"} {
		if err := os.WriteFile(filepath.Join(dir, File), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Perform(dir); err == nil {
			t.Errorf("%q was accepted", b)
		}
	}
	if !exists(address) {
		t.Error("an address was freed that no record names")
	}
}

func FuzzParse(f *testing.F) {
	var l Log
	l.Lock("/l")
	l.Endpoint("/e")
	l.Filter([]byte("x"))
	f.Add(l.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parse(b)
		if err != nil {
			return
		}
		var again Log
		for _, r := range list {
			again.add(r.kind, r.data)
		}
		if !bytes.Equal(again.b, b) {
			t.Errorf("%x becomes %x", b, again.b)
		}
	})
}
