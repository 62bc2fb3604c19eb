package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// The test binary stands in for other processes that use the same store.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SNAPSHOT_TEST_UNPACK"); dir != "" {
		if err := unpackAsChild(dir, os.Getenv("SNAPSHOT_TEST_LAYER")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// unpackAsChild unpacks the layer in the file, and says so on stdout if it was
// the one to read it.
func unpackAsChild(dir, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	s, err := Open(dir)
	if err != nil {
		return err
	}
	read := false
	r := bytes.NewReader(content)
	err = s.Unpack(context.Background(), layerOf(content), readerFunc(func(p []byte) (int, error) {
		read = true
		return r.Read(p)
	}))
	if read {
		fmt.Print("read")
	}
	return err
}

func child(dir, layer string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SNAPSHOT_TEST_UNPACK="+dir, "SNAPSHOT_TEST_LAYER="+layer)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// bigLayer is a layer that takes some milliseconds, with all kinds of entries.
func bigLayer(t testing.TB) []byte {
	t.Helper()
	entries := []entry{directory("."), symlink("link", "/")}
	for i := range 40 {
		dir := fmt.Sprintf("d%02d", i)
		entries = append(entries, directory(dir))
		for j := range 20 {
			entries = append(entries, file(fmt.Sprintf("%s/f%02d", dir, j), strings.Repeat("content ", 100*j)))
		}
		entries = append(entries, hardlink(dir+"/hard", dir+"/f01"), whiteout(dir+"/.wh.gone"), opaque(dir))
	}
	return makeTar(t, entries...)
}

func TestOpen(t *testing.T) {
	dir := memoryDir(t)
	s := openStore(t, dir+"/new/layers")
	st, err := os.Stat(dir + "/new/layers")
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; want 0700: layers hold set-user-ID programs", st.Mode(), err)
	}
	unpackAll(t, s, []entry{file("f", "x")})
	t.Chdir(dir)
	again := openStore(t, "new/layers")
	t.Chdir("/")
	if chains, err := again.List(); err != nil || len(chains) != 1 {
		t.Errorf("the store opened by a relative path lists %v, %v", chains, err)
	}
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir + "/file"); err == nil || !strings.Contains(err.Error(), "open layer store "+dir+"/file") {
		t.Errorf("a file as a store: %v", err)
	}
}

func TestListSizeRemove(t *testing.T) {
	s := openStore(t, memoryDir(t)+"/layers")
	chain := unpackAll(t, s, []entry{file("f", "12345"), hardlink("g", "f"), directory("d")}, []entry{file("h", "123")}, nil)
	list, err := s.List()
	if err != nil || len(list) != 3 {
		t.Fatalf("list %v, %v", list, err)
	}
	for i, want := range []int64{5, 3, 0} {
		if size, err := s.Size(chain[i]); err != nil || size != want {
			t.Errorf("layer %d: size %d, %v; want %d", i, size, err, want)
		}
		if !s.Has(chain[i]) {
			t.Errorf("layer %d is not there", i)
		}
	}
	if err := s.Remove(chain[2]); err != nil {
		t.Error(err)
	}
	if s.Has(chain[2]) {
		t.Error("removed, but there")
	}
	for _, missing := range []digest.Digest{chain[2], "", "sha256:abc", "sha256:" + digest.Digest(strings.Repeat("A", 64)), "sha256-" + digest.Digest(strings.Repeat("a", 64))} {
		if s.Has(missing) {
			t.Errorf("has %q", missing)
		}
		if _, err := s.Size(missing); err == nil {
			t.Errorf("size of %q: no error", missing)
		}
		if err := s.Remove(missing); err == nil {
			t.Errorf("remove %q: no error", missing)
		}
	}
	if err := s.Remove(chain[2]); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := s.Size(chain[2]); !errors.Is(err, ErrNotFound) {
		t.Errorf("size of a removed layer: %v", err)
	}
	wantEmptyTmp(t, s)
}

// Many callers with one chain, in this process and in others: one works.
func TestParallelUnpack(t *testing.T) {
	dir := memoryDir(t)
	content := bigLayer(t)
	if err := os.WriteFile(dir+"/layer.tar", content, 0o600); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		s := openStore(t, fmt.Sprintf("%s/layers%d", dir, round))
		var readers atomic.Int32
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				var once sync.Once
				r := bytes.NewReader(content)
				if err := s.Unpack(context.Background(), layerOf(content), readerFunc(func(p []byte) (int, error) {
					once.Do(func() { readers.Add(1) })
					return r.Read(p)
				})); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				cmd, out := child(s.dir, dir+"/layer.tar")
				if err := cmd.Run(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				if out.String() == "read" {
					readers.Add(1)
				}
			})
		}
		wg.Wait()
		if n := readers.Load(); n != 1 {
			t.Errorf("%d callers read the layer, want 1", n)
		}
		wantEmptyTmp(t, s)
	}
}

// A process that is killed at any point leaves the layer whole or not at all;
// the next one is not hindered, and no garbage stays.
func TestKilled(t *testing.T) {
	dir := memoryDir(t)
	content := bigLayer(t)
	path := dir + "/layer.tar"
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	l := layerOf(content)
	reference := openStore(t, dir+"/reference")
	began := time.Now()
	cmd, out := child(reference.dir, path)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	whole := time.Since(began)
	want := describe(t, lowerOf(t, reference, l.ChainID))

	s := openStore(t, dir+"/layers")
	garbage, done := 0, 0
	for round := range 40 {
		cmd, _ := child(s.dir, path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(whole))
		cmd.Process.Kill()
		cmd.Wait()
		if left, err := os.ReadDir(s.tmp()); err != nil {
			t.Fatal(err)
		} else {
			garbage += len(left)
		}
		if s.Has(l.ChainID) {
			done++
		}
		// Every other time the collector cleans up, else the next Unpack.
		if round%2 == 0 {
			if err := s.GC(); err != nil {
				t.Fatal(err)
			}
			wantEmptyTmp(t, s)
		}
		if _, err := unpackBytes(s, content); err != nil {
			t.Fatal(err)
		}
		wantEmptyTmp(t, s)
		if d := diff(withoutTimes(want), withoutTimes(describe(t, lowerOf(t, s, l.ChainID)))); d != "" {
			t.Fatalf("round %d: the layer is not whole:\n%s", round, d)
		}
		if err := s.Remove(l.ChainID); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("killed 40 times: %d left garbage, %d were done", garbage, done)
}

// withoutTimes cuts the times out, for the whiteouts' are those of unpacking.
func withoutTimes(tree map[string]string) map[string]string {
	out := make(map[string]string)
	for name, line := range tree {
		fields := strings.SplitN(line, " ", 4)
		if strings.HasPrefix(line, "020000 0:0 ") {
			fields[2] = ""
		}
		out[name] = strings.Join(fields, " ")
	}
	return out
}

// The garbage of the dead goes, and what the living work on stays.
func TestGC(t *testing.T) {
	dir := memoryDir(t)
	s := openStore(t, dir+"/layers")
	content := bigLayer(t)
	reading, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := bytes.NewReader(content)
	result := make(chan error)
	go func() {
		result <- s.Unpack(context.Background(), layerOf(content), readerFunc(func(p []byte) (int, error) {
			once.Do(func() { close(reading); <-release })
			return r.Read(p)
		}))
	}()
	<-reading
	stale := s.tmp() + "/sha256-" + strings.Repeat("0", 64)
	for _, d := range []string{stale + "/fs/some/files", stale + ".removed-1/fs"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.tmp()+"/strayfile", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.GC(); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(s.tmp())
	if err != nil || len(left) != 1 || left[0].Name() != filepath.Base(lowerDirName(t, s, content)) {
		t.Errorf("left %v, %v; want only the layer that is being unpacked", left, err)
	}
	close(release)
	if err := <-result; err != nil {
		t.Error(err)
	}
	if !s.Has(layerOf(content).ChainID) {
		t.Error("the living layer is gone")
	}
	wantEmptyTmp(t, s)
}

func lowerDirName(t *testing.T, s *Store, content []byte) string {
	return filepath.Dir(lowerOf(t, s, layerOf(content).ChainID))
}

// Collectors, unpackers and removers at once neither fail nor leave anything.
func TestGCRaces(t *testing.T) {
	s := openStore(t, memoryDir(t)+"/layers")
	content := makeTar(t, file("a/b/c", "x"), hardlink("d", "a/b/c"))
	l := layerOf(content)
	var workers, collector sync.WaitGroup
	stop := make(chan struct{})
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := s.GC(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 4 {
		workers.Go(func() {
			for range 60 {
				if err := s.Unpack(context.Background(), l, bytes.NewReader(content)); err != nil {
					t.Error(err)
				}
				if err := s.Remove(l.ChainID); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	close(stop)
	collector.Wait()
	if err := s.GC(); err != nil {
		t.Error(err)
	}
	wantEmptyTmp(t, s)
}

func TestCancel(t *testing.T) {
	content := bigLayer(t)
	l := layerOf(content)
	s := openStore(t, memoryDir(t)+"/layers")
	ctx, cancel := context.WithCancel(context.Background())
	half := bytes.NewReader(content[:len(content)/2])
	reading, release := make(chan struct{}), make(chan struct{})
	worker := make(chan error, 1)
	go func() {
		worker <- s.Unpack(ctx, l, io.MultiReader(half, readerFunc(func([]byte) (int, error) {
			close(reading)
			<-release
			return 0, nil
		})))
	}()
	<-reading

	// Another caller waits for the first, until its own context ends.
	waiting, giveUp := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer giveUp()
	if err := s.Unpack(waiting, l, neverRead(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting caller: %v", err)
	}

	cancel()
	close(release)
	if err := <-worker; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if s.Has(l.ChainID) {
		t.Error("the store has the layer")
	}
	wantEmptyTmp(t, s)
	if err := s.Unpack(ctx, l, neverRead(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	if _, err := unpackBytes(s, content); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := s.Unpack(context.Background(), l, neverRead(t)); err != nil {
		t.Errorf("a layer that is there: %v", err)
	}
}

func neverRead(t *testing.T) io.Reader {
	return readerFunc(func([]byte) (int, error) {
		t.Error("the reader of a caller with nothing to do was read")
		return 0, io.EOF
	})
}

// A waiting caller goes to work when the one before it fails.
func TestWaiterTakesOver(t *testing.T) {
	content := bigLayer(t)
	l := layerOf(content)
	s := openStore(t, memoryDir(t)+"/layers")
	reading, fail := make(chan struct{}), make(chan struct{})
	worker, waiter := make(chan error, 1), make(chan error, 1)
	go func() {
		worker <- s.Unpack(context.Background(), l, readerFunc(func([]byte) (int, error) {
			close(reading)
			<-fail
			return 0, unix.EIO
		}))
	}()
	<-reading
	go func() { waiter <- s.Unpack(context.Background(), l, bytes.NewReader(content)) }()
	close(fail)
	if err := <-worker; !errors.Is(err, unix.EIO) {
		t.Errorf("first caller: %v", err)
	}
	if err := <-waiter; err != nil {
		t.Errorf("second caller: %v", err)
	}
	if !s.Has(l.ChainID) {
		t.Error("no layer")
	}
	wantEmptyTmp(t, s)
}

// A store that cannot be written says so, and still mounts what it has.
func TestReadOnlyStore(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("store", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s := openStore(t, dir+"/layers")
	chain := unpackAll(t, s, []entry{file("f", "x")})
	one := MountOptions{Lower: stringsOf(chain)}
	mounted(t, s, one) // makes the empty directory
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir+"/layers")
	if _, err := unpackBytes(s, makeTar(t, file("g", "y"))); !errors.Is(err, unix.EROFS) {
		t.Errorf("unpack: %v", err)
	}
	if err := s.Remove(chain[0]); !errors.Is(err, unix.EROFS) {
		t.Errorf("remove: %v", err)
	}
	if err := s.GC(); err != nil {
		t.Errorf("collect: %v", err)
	}
	if got := contents(t, mounted(t, s, one)); len(got) != 1 || got[0] != "f=x" {
		t.Errorf("mounted: %v", got)
	}
}
