package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// cage is a store among sentinels: files around it, and at the places that
// absolute names in hostile layers lead to, that no layer may touch.
type cage struct {
	dir    string
	store  *Store
	before map[string]string
}

func newCage(t testing.TB) *cage {
	t.Helper()
	c := &cage{dir: memoryDir(t)}
	for name, content := range map[string]string{
		"outside/secret": "sentinel", "outside/dir/file": "sentinel", "secret": "sentinel", "root/layers/secret": "sentinel",
	} {
		path := c.dir + "/" + name
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.store = openStore(t, c.dir+"/root/layers")
	c.before = c.outside(t)
	return c
}

// outside describes all but the layers in the store.
func (c *cage) outside(t testing.TB) map[string]string {
	t.Helper()
	all := describe(t, c.dir)
	for name := range all {
		// The store's own directories change their times with each layer.
		if name == "root/layers" || name == "root/layers/tmp" || strings.HasPrefix(name, "root/layers/sha256-") {
			delete(all, name)
		}
	}
	return all
}

// check fails the test when something outside of a layer has changed, or when
// the store holds something half-made. It also deletes the layer, for what
// cannot be deleted is no better.
func (c *cage) check(t testing.TB, l Layer, unpackErr error) {
	t.Helper()
	if d := diff(c.before, c.outside(t)); d != "" {
		t.Errorf("something outside of the layer changed:\n%s", d)
	}
	wantEmptyTmp(t, c.store)
	if has := c.store.Has(l.ChainID); has != (unpackErr == nil) {
		t.Errorf("error %v, but the store has the layer: %v", unpackErr, has)
	}
	if unpackErr == nil {
		if err := c.store.Remove(l.ChainID); err != nil {
			t.Error(err)
		}
		wantEmptyTmp(t, c.store)
	}
}

func TestHostileLayers(t *testing.T) {
	c := newCage(t)
	out := c.dir + "/outside"
	up := strings.Repeat("../", 20) + strings.TrimPrefix(out, "/")
	fifo := entry{tar.Header{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o600}, ""}
	deep := func(name string, n int) string { return strings.Repeat(name+"/", n) + "f" }
	var spiral []entry // links that lead ever deeper, one path at a time
	for i, at := 0, ""; i < 6; i++ {
		at += strings.Repeat("d/", 90)
		spiral = append(spiral, symlink(fmt.Sprintf("s%d", i), strings.TrimSuffix(at, "/")))
		spiral = append(spiral, file(fmt.Sprintf("s%d/%sx", i, strings.Repeat("d/", 80)), ""))
	}
	for _, test := range []struct {
		name    string
		entries []entry
		err     string // part of the error; "" when the layer unpacks, confined
		want    string // the layer's content in that case
	}{
		{"dot dot", []entry{file("../secret", "owned")}, "name with a .. component", ""},
		{"dot dot in the middle", []entry{file("a/../../secret", "owned")}, "name with a .. component", ""},
		{"dot dot inside", []entry{file("a/../b", "owned")}, "name with a .. component", ""},
		{"dot dot directory", []entry{directory("..")}, "name with a .. component", ""},
		{"far out", []entry{file(up+"/secret", "owned")}, "name with a .. component", ""},
		{"absolute name", []entry{file(out+"/secret", "owned")}, "", strings.TrimPrefix(out, "/") + "/secret=owned"},
		{"absolute link as parent", []entry{symlink("l", out), file("l/secret", "owned")}, "", strings.TrimPrefix(out, "/") + "/secret=owned"},
		{"relative link as parent", []entry{symlink("l", up), file("l/secret", "owned")}, "", strings.TrimPrefix(out, "/") + "/secret=owned"},
		{"link in a directory", []entry{directory("a"), symlink("a/l", up+"/dir"), file("a/l/file", "owned")}, "", strings.TrimPrefix(out, "/") + "/dir/file=owned"},
		{"link to root", []entry{symlink("l", "/"), file("l/x", "1")}, "", "l->/ x=1"},
		{"link swapped under an entry", []entry{directory("d"), file("d/secret", "1"), symlink("d", out), file("d/secret", "owned")}, "", strings.TrimPrefix(out, "/") + "/secret=owned"},
		{"link swapped under a directory's late times", []entry{directory("d").with(func(h *tar.Header) { h.ModTime = time.Unix(5, 0) }), symlink("d", out)}, "", "d->" + out},
		{"write through a link", []entry{symlink("secret", out+"/secret"), file("secret", "owned")}, "", "secret=owned"},
		{"write through a dangling link", []entry{symlink("s", out+"/new"), file("s", "owned")}, "", "s=owned"},
		{"directory over a link out", []entry{symlink("d", out), directory("d").with(func(h *tar.Header) { h.Mode = 0 })}, "", "d/"},
		{"device over a link out", []entry{symlink("d", out+"/secret"), deviceNode("d", tar.TypeChar, 1, 3)}, "", "d char"},
		{"loop of links", []entry{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}, "too many levels of symbolic links", ""},
		{"link to itself", []entry{symlink("a", "a"), file("a/x", "")}, "too many levels of symbolic links", ""},
		{"exponential links", []entry{symlink("a", "."), symlink("b", strings.Repeat("a/", 2000)), file("b/x", "")}, "too many levels of symbolic links", ""},
		{"empty link target", []entry{symlink("a", "")}, "no such file", ""},
		{"hard link out, relative", []entry{hardlink("h", up+"/secret"), file("h", "owned")}, "name with a .. component", ""},
		{"hard link out, absolute", []entry{hardlink("h", out+"/secret"), file("h", "owned")}, "file does not exist", ""},
		{"hard link out through a link", []entry{symlink("l", out), hardlink("h", "l/secret")}, "file does not exist", ""},
		{"hard link to a link out, then written", []entry{symlink("l", out+"/secret"), hardlink("h", "l"), file("h", "mine")}, "", "h=mine l->" + out + "/secret"},
		{"hard link to a directory", []entry{directory("d"), hardlink("h", "d")}, "it is a directory", ""},
		{"hard link to the root", []entry{hardlink("h", "/")}, "the root can have no other name", ""},
		{"hard link to nothing", []entry{hardlink("h", "")}, "the root can have no other name", ""},
		{"hard link to a whiteout", []entry{whiteout(".wh.f"), hardlink("h", "f")}, "file does not exist", ""},
		{"hard link in place of a directory that holds its target", []entry{directory("d"), file("d/f", ""), hardlink("d", "d/f")}, "no such file", ""},
		{"file as parent", []entry{file("f", ""), file("f/x", "")}, "f is not a directory", ""},
		{"pipe as parent", []entry{fifo, file("p/x", "")}, "p is not a directory", ""},
		{"root as a file", []entry{file(".", "x")}, "the root can only be a directory", ""},
		{"root as a link", []entry{symlink("/", out)}, "the root can only be a directory", ""},
		{"root as a link with no name", []entry{symlink("", out)}, "the root can only be a directory", ""},
		{"root three times", []entry{directory("."), directory("/"), directory("./"), file("x", "1")}, "", "x=1"},
		{"whiteout of nothing", []entry{whiteout("a/.wh.")}, "whiteout of no name", ""},
		{"whiteout of dot", []entry{whiteout(".wh..")}, "whiteout of no name", ""},
		{"whiteout of dot dot", []entry{whiteout(".wh...")}, "whiteout of no name", ""},
		{"whiteout behind a link out", []entry{symlink("l", out), whiteout("l/.wh.secret")}, "", strings.TrimPrefix(out, "/") + "/secret char"},
		{"opaque mark behind a link out", []entry{symlink("l", out), opaque("l")}, "", strings.TrimPrefix(out, "/") + "/"},
		{"whiteout as a directory", []entry{file(".wh.d/x", "")}, `directory name ".wh.d" is that of a whiteout`, ""},
		{"AUFS links out", []entry{symlink(".wh..wh.plnk", out), file(".wh..wh.plnk/secret", "owned"), hardlink("a", ".wh..wh.plnk/secret")}, "", "a=owned"},
		{"AUFS links into a subdirectory", []entry{file(".wh..wh.plnk/../secret", "owned")}, "name with a .. component", ""},
		{"device number too large", []entry{deviceNode("d", tar.TypeBlock, 4096, 0)}, "device number 4096:0 is out of range", ""},
		{"minor device number too large", []entry{deviceNode("d", tar.TypeChar, 1, 1<<20)}, "device number 1:1048576 is out of range", ""},
		{"negative user", []entry{file("f", "").with(func(h *tar.Header) { h.Uid = -1 })}, "user ID -1 is out of range", ""},
		{"user that means no change", []entry{file("f", "").with(func(h *tar.Header) { h.Uid = 1<<32 - 1 })}, "user ID 4294967295 is out of range", ""},
		{"group beyond 32 bits", []entry{file("f", "").with(func(h *tar.Header) { h.Gid = 1 << 32 })}, "group ID 4294967296 is out of range", ""},
		{"component too long", []entry{file(strings.Repeat("x", 256), "")}, "file name too long", ""},
		{"name too long", []entry{file(deep("dirs", 1000), "")}, "longer than 4095", ""},
		{"too deep", []entry{file(deep("d", 600), "")}, "more than 500 directories deep", ""},
		{"too deep through links", spiral, "more than 500 directories deep", ""},
		{"control bytes", []entry{file("a\x01\n\x7f\xff", "1")}, "", "a\x01\n\x7f\xff=1"},
		{"unknown type", []entry{file("f", "").with(func(h *tar.Header) { h.Typeflag = 'Z' })}, "unknown entry type 'Z'", ""},
		{"xattr with an empty name", []entry{file("f", "").with(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.": "x"} })}, "set extended attribute user.", ""},
		{"huge xattr", []entry{file("f", "").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 1<<17)}
		})}, "set extended attribute user.x (131072 bytes)", ""},
		{"bad capability", []entry{file("f", "").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "nonsense"}
		})}, "set extended attribute security.capability (8 bytes)", ""},
		{"times beyond all clocks", []entry{file("f", "1").with(func(h *tar.Header) { h.ModTime = time.Unix(1<<55, 0); h.Format = tar.FormatPAX })}, "", "f=1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			content := makeTar(t, test.entries...)
			l := layerOf(content)
			err := c.store.Unpack(context.Background(), l, bytes.NewReader(content))
			if test.err == "" && err != nil {
				t.Errorf("refused: %v", err)
			} else if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got error %v, want one with %q", err, test.err)
			}
			if err == nil && test.err == "" {
				got := contents(t, lowerOf(t, c.store, l.ChainID))
				if !strings.Contains(strings.Join(got, " "), test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
			}
			c.check(t, l, err)
		})
	}
}

// rawHeader makes a header block that no well-meaning writer would write.
func rawHeader(change func(block []byte)) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Format: tar.FormatGNU})
	block := buf.Bytes()[:512]
	change(block)
	fixChecksum(block)
	return block
}

func fixChecksum(block []byte) {
	copy(block[148:156], "        ")
	sum := 0
	for _, b := range block[:512] {
		sum += int(b)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// number writes a binary number as GNU tar does for large and negative ones.
func number(field []byte, n int64) {
	for i := range field {
		field[i] = byte(n >> 63)
	}
	binary.BigEndian.PutUint64(field[len(field)-8:], uint64(n))
	field[0] |= 0x80
}

func TestMalformedArchives(t *testing.T) {
	c := newCage(t)
	c.store.Limits = Limits{Bytes: 1 << 20, Entries: 1000}
	end := make([]byte, 1024)
	good := makeTar(t, file("f", strings.Repeat("x", 600)))
	sparse := func(size int64, pieces ...int64) []byte {
		return rawHeader(func(b []byte) {
			b[156] = 'S'
			number(b[483:495], size)
			for i, p := range pieces {
				number(b[386+12*i:398+12*i], p)
			}
		})
	}
	for _, test := range []struct {
		name    string
		content []byte
		err     string
	}{
		{"empty", nil, ""}, // scratch layers of some builders are empty files
		{"end mark only", end, ""},
		{"no end mark", good[:1536], ""},
		{"cut in the content", good[:700], "unexpected EOF"},
		{"cut in the header", good[:300], "unexpected EOF"},
		{"not a tar", bytes.Repeat([]byte("nonsense"), 200), "invalid tar header"},
		{"rubbish after the end", append(bytes.Clone(good), bytes.Repeat([]byte("rubbish!"), 2000)...), ""},
		{"an endless tail", append(bytes.Clone(good), make([]byte, 2<<20)...), "larger than the limit of 1048576 bytes"},
		{"negative size", append(rawHeader(func(b []byte) { number(b[124:136], -512) }), end...), "invalid tar header"},
		{"huge size", append(rawHeader(func(b []byte) { number(b[124:136], 1<<62) }), end...), "files larger than the limit"},
		{"negative device", append(rawHeader(func(b []byte) { b[156] = '3'; number(b[329:337], -1) }), end...), "out of range"},
		{"name with a zero byte", append(rawHeader(func(b []byte) { copy(b, "a\x00../../secret") }), end...), ""},
		{"PAX name with a zero byte", paxLayer("path", "a\x00b"), "invalid tar header"},
		{"PAX link with dot dot", paxLayer("path", "../../../secret"), "name with a .. component"},
		{"PAX negative size", paxLayer("size", "-1"), "invalid tar header"},
		{"PAX huge size", paxLayer("size", "9223372036854775807"), "files larger than the limit"},
		{"sparse and huge", append(sparse(1<<60), end...), "files larger than the limit"},
		{"sparse, pieces overlap", append(sparse(4096, 0, 512, 256, 512), make([]byte, 2048)...), "invalid tar header"},
		{"sparse, pieces beyond the end", append(sparse(1024, 4096, 512), make([]byte, 2048)...), "invalid tar header"},
		{"sparse, negative piece", append(sparse(1024, -512, 512), make([]byte, 2048)...), "invalid tar header"},
		{"sparse map without end", sparseMapBomb(), "read tar entry 0: "},
		{"many small files", entriesBomb(t, 1001), "more than the limit of 1000 entries"},
		{"long name without end", append(rawHeader(func(b []byte) { b[156] = 'L'; number(b[124:136], 1<<40) }), bytes.Repeat([]byte("x"), 4<<20)...), "read tar entry 0: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := layerOf(test.content)
			err := c.store.Unpack(context.Background(), l, bytes.NewReader(test.content))
			if test.err == "" && err != nil {
				t.Errorf("refused: %v", err)
			} else if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got error %v, want one with %q", err, test.err)
			}
			c.check(t, l, err)
		})
	}
}

// paxLayer is one file with one PAX record before it.
func paxLayer(key, value string) []byte {
	record := " " + key + "=" + value + "\n"
	n := len(record) + 1
	for len(fmt.Sprint(n))+len(record) != n {
		n++
	}
	record = fmt.Sprint(n) + record
	head := rawHeader(func(b []byte) {
		b[156] = 'x'
		copy(b[257:], "ustar\x0000")
		number(b[124:136], int64(len(record)))
	})
	body := make([]byte, 512*((len(record)+511)/512))
	copy(body, record)
	out := append(bytes.Clone(head), body...)
	out = append(out, rawHeader(func(b []byte) { copy(b[257:], "ustar\x0000") })...)
	return append(out, make([]byte, 1024)...)
}

// sparseMapBomb is an old GNU sparse file whose map goes on and on.
func sparseMapBomb() []byte {
	out := rawHeader(func(b []byte) {
		b[156] = 'S'
		b[482] = 1
		number(b[483:495], 1<<19)
		for i := range int64(4) {
			number(b[386+24*i:398+24*i], i)
			number(b[398+24*i:410+24*i], 0)
		}
	})
	block := make([]byte, 512)
	for i := range int64(21) {
		number(block[24*i:24*i+12], 5+i)
		number(block[24*i+12:24*i+24], 0)
	}
	block[504] = 1
	return append(out, bytes.Repeat(block, 4000)...)
}

func entriesBomb(t *testing.T, n int) []byte {
	var entries []entry
	for i := range n {
		entries = append(entries, file(fmt.Sprint(i), ""))
	}
	return makeTar(t, entries...)
}

// A copy from a lower layer counts as well.
func TestCopyUpIsLimited(t *testing.T) {
	s := openStore(t, memoryDir(t)+"/layers")
	chain := unpackAll(t, s, []entry{file("big", strings.Repeat("x", 3<<20))})
	s.Limits.Bytes = 2 << 20
	_, err := unpackBytes(s, makeTar(t, hardlink("h", "big")), chain...)
	if err == nil || !strings.Contains(err.Error(), "files larger than the limit of 2097152 bytes") {
		t.Errorf("got %v", err)
	}
	wantEmptyTmp(t, s)
}

// A stream that decompresses without end stops at the limit.
func TestDecompressionBomb(t *testing.T) {
	c := newCage(t)
	c.store.Limits.Bytes = 4 << 20
	head := rawHeader(func(b []byte) { number(b[124:136], 3<<20) })
	var read int64
	endless := readerFunc(func(p []byte) (int, error) {
		n := 0
		for ; n < len(p) && read < int64(len(head)); n, read = n+1, read+1 {
			p[n] = head[read]
		}
		for ; n < len(p); n, read = n+1, read+1 {
			p[n] = 0
		}
		return n, nil
	})
	l := layerOf(head)
	err := c.store.Unpack(context.Background(), l, endless)
	if err == nil || !strings.Contains(err.Error(), "limit of 4194304 bytes") {
		t.Errorf("got %v", err)
	}
	if read > 5<<20 {
		t.Errorf("read %d bytes", read)
	}
	c.check(t, l, err)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestWrongDigests(t *testing.T) {
	c := newCage(t)
	content := makeTar(t, file("f", "x"))
	good := layerOf(content)
	for _, test := range []struct {
		name   string
		layer  Layer
		stream []byte
		err    string
	}{
		{"content changed", good, makeTar(t, file("f", "y")), "digest of the content is sha256:"},
		{"padding missing", good, content[:len(content)-512], "digest of the content is sha256:"},
		{"padding added", good, append(bytes.Clone(content), 0), "digest of the content is sha256:"},
		{"chain ID of another layer", Layer{ChainID: digest.FromString("x"), DiffID: good.DiffID}, content, "does not follow"},
		{"path for a chain ID", Layer{ChainID: "sha256:../../../x", DiffID: good.DiffID}, content, "not a digest"},
		{"no diff ID", Layer{ChainID: good.ChainID}, content, "diff ID"},
		{"parent not unpacked", layerOf(content, good.ChainID), content, "no such layer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := c.store.Unpack(context.Background(), test.layer, bytes.NewReader(test.stream))
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %v, want an error with %q", err, test.err)
			}
			c.check(t, test.layer, err)
		})
	}
}

// A disk that is full of bytes, or of inodes, leaves nothing behind, and the
// layer unpacks once there is room.
func TestFullDisk(t *testing.T) {
	for _, test := range []struct {
		name, options string
		layer         []entry
	}{
		{"no bytes", "size=4m", []entry{file("small", "x"), file("big", strings.Repeat("x", 8<<20))}},
		{"no inodes", "nr_inodes=30", func() (e []entry) {
			for i := range 100 {
				e = append(e, directory(fmt.Sprint(i)))
			}
			return e
		}()},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("full", dir, "tmpfs", 0, test.options); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(dir, unix.MNT_DETACH)
			s := openStore(t, dir+"/layers")
			free := func() (uint64, uint64) {
				var st unix.Statfs_t
				if err := unix.Statfs(dir, &st); err != nil {
					t.Fatal(err)
				}
				return st.Bfree, st.Ffree
			}
			blocks, inodes := free()
			content := makeTar(t, test.layer...)
			chain, err := unpackBytes(s, content)
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("got %v, want %v", err, unix.ENOSPC)
			}
			if s.Has(chain) {
				t.Error("the store has the layer")
			}
			wantEmptyTmp(t, s)
			if b, i := free(); b != blocks || i != inodes {
				t.Errorf("free blocks %d, before %d; free inodes %d, before %d", b, blocks, i, inodes)
			}
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=64m,nr_inodes=1000"); err != nil {
				t.Fatal(err)
			}
			if _, err := unpackBytes(s, content); err != nil {
				t.Errorf("with room: %v", err)
			}
		})
	}
}

// FuzzUnpack feeds archives with any bytes. Blocks that look like headers get
// right checksums, or few would be read at all.
func FuzzUnpack(f *testing.F) {
	for _, entries := range [][]entry{
		{file("a/b", "content"), symlink("l", "/outside"), file("l/secret", "x"), hardlink("h", "a/b")},
		{directory("d"), whiteout("d/.wh.x"), opaque("d"), deviceNode("n", tar.TypeChar, 1, 3)},
		{file("f", "x").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y", "SCHILY.xattr.trusted.overlay.opaque": "y"}
		})},
		{file(strings.Repeat("long/", 40)+"name", "x").with(func(h *tar.Header) { h.Format = tar.FormatGNU })},
	} {
		f.Add(makeTar(f, entries...))
	}
	f.Add(sparseMapBomb()[:4096])
	f.Add(paxLayer("path", "../x"))
	f.Add(paxLayer("GNU.sparse.map", "0,1,5,1"))
	c := newCage(f)
	c.store.Limits = Limits{Bytes: 1 << 20, Entries: 200}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		for block := range len(data) / 512 {
			b := data[512*block : 512*block+512]
			if bytes.HasPrefix(b[257:], []byte("ustar")) {
				fixChecksum(b)
			}
		}
		l := layerOf(data)
		c.check(t, l, c.store.Unpack(context.Background(), l, bytes.NewReader(data)))
	})
}

// FuzzEntries makes well-formed archives of hostile entries: each four bytes
// are a type, a name, a link target and a content, out of a few that collide.
func FuzzEntries(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 1, 3, 0, 0, 9, 0, 1})
	f.Add([]byte{2, 4, 7, 0, 0, 9, 0, 1, 5, 4, 0, 0, 0, 9, 0, 1, 1, 8, 9, 0})
	f.Add([]byte{5, 0, 0, 0, 0, 10, 0, 0, 0, 11, 0, 0, 2, 0, 1, 0, 3, 4, 5, 6})
	names := []string{
		"a", "b", "a/b", "a/b/c", "l", "l/x", "a/l", "a/l/x", "h", "l/secret", "a/.wh.b", "a/.wh..wh..opq", ".wh.a", ".wh..wh..opq",
		".", "/", "./a/", "../x", ".wh.", ".wh..wh.plnk/1", ".wh..wh.aufs", "b/c/d/e", "b/l", "b/l/l/l",
	}
	targets := []string{"/", ".", "..", "a", "b", "../..", "/outside", "../../../outside", "l", "a/l", "/a/b", "b/../a", ".wh..wh.plnk/1", "a/b/c", "", "../l"}
	types := []byte{tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeReg}
	c := newCage(f)
	base := layerOf(makeTar(f, directory("a"), file("a/b", "base"), symlink("l", "/outside"), directory("b"), symlink("b/l", "../.."), file("h", "base")))
	f.Fuzz(func(t *testing.T, data []byte) {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for len(data) >= 4 {
			h := &tar.Header{Typeflag: types[int(data[0])%len(types)], Name: names[int(data[1])%len(names)], Mode: int64(data[0]) << 4}
			if h.Typeflag == tar.TypeLink || h.Typeflag == tar.TypeSymlink {
				h.Linkname = targets[int(data[2])%len(targets)]
			}
			if h.Typeflag == tar.TypeReg {
				h.Size = int64(data[3])
			}
			data = data[4:]
			if w.WriteHeader(h) == nil { // it refuses files with a trailing slash
				w.Write(make([]byte, h.Size))
			}
		}
		w.Close()
		// On top of a layer with links of its own, for what is copied from it.
		lower := makeTar(t, directory("a"), file("a/b", "base"), symlink("l", "/outside"), directory("b"), symlink("b/l", "../.."), file("h", "base"))
		if _, err := unpackBytes(c.store, lower); err != nil {
			t.Fatal(err)
		}
		l := layerOf(buf.Bytes(), base.ChainID)
		err := c.store.Unpack(context.Background(), l, bytes.NewReader(buf.Bytes()))
		if err == nil {
			root, err := c.store.Mount(MountOptions{Lower: []string{string(base.ChainID), string(l.ChainID)}})
			if err != nil {
				t.Errorf("cannot mount: %v", err)
			} else {
				root.Close()
			}
		}
		c.check(t, l, err)
	})
}

// A reader that fails leaves nothing behind, and its error is to be found.
func TestReaderFails(t *testing.T) {
	c := newCage(t)
	content := makeTar(t, file("a", strings.Repeat("x", 5000)), file("b", "y"))
	broken := errors.New("connection lost")
	for n := 0; n < len(content); n += 700 {
		l := layerOf(content)
		err := c.store.Unpack(context.Background(), l, io.MultiReader(bytes.NewReader(content[:n]), readerFunc(func([]byte) (int, error) { return 0, broken })))
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		c.check(t, l, err)
	}
}
