package rootless

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// idRange is a line of a map: size IDs from inside on are those from outside on.
type idRange struct{ inside, outside, size uint32 }

// ranges reads the ranges that a file such as /etc/subuid, subuid(5), gives to a
// user, by name or number.
func ranges(r io.Reader, name string, uid int) ([]idRange, error) {
	var list []idRange
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) != 3 {
			return nil, fmt.Errorf("line %d: want NAME:FIRST:COUNT", n)
		}
		if f[0] != name && f[0] != strconv.Itoa(uid) {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if count > 0 {
			list = append(list, idRange{outside: uint32(first), size: uint32(count)})
		}
	}
	return list, lines.Err()
}

// idMap makes the map: own becomes 0, and the ranges follow.
func idMap(own int, list []idRange) []idRange {
	m := []idRange{{0, uint32(own), 1}}
	next := uint32(1)
	for _, r := range list {
		if r.size > ^uint32(0)-next {
			r.size = ^uint32(0) - next
		}
		m = append(m, idRange{next, r.outside, r.size})
		next += r.size
	}
	return m
}

// mapping is what has to be written for one kind of ID.
type mapping struct {
	kind string // "uid" or "gid"
	list []idRange
	tool string // newuidmap or newgidmap; "" if the user may write the map alone
}

// mappings gives both maps. Without ranges, or without the tools that grant
// them, only the user itself is mapped, and the notes say so.
func mappings() (maps [2]mapping, notes []string) {
	name := ""
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
		name = u.Username
	}
	var missing []string
	for i, kind := range []string{"uid", "gid"} {
		own := []int{os.Getuid(), os.Getgid()}[i]
		m := mapping{kind: kind, list: idMap(own, nil)}
		list, err := readRanges("/etc/sub"+kind, name)
		tool, terr := exec.LookPath("new" + kind + "map")
		switch {
		case err != nil:
			missing = append(missing, err.Error())
		case len(list) == 0:
			missing = append(missing, fmt.Sprintf("/etc/sub%s has no range for %s", kind, cmpOr(name, strconv.Itoa(os.Getuid()))))
		case terr != nil:
			missing = append(missing, "new"+kind+"map is not installed (Debian's package uidmap)")
		default:
			m.list, m.tool = idMap(own, list), tool
		}
		maps[i] = m
	}
	if len(missing) > 0 { // half a map is of no use
		for i := range maps {
			maps[i].list, maps[i].tool = maps[i].list[:1], ""
		}
		notes = append(notes, "only your own user and group are mapped, so images with files of other users cannot be unpacked: "+strings.Join(missing, "; "))
	}
	return maps, notes
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func readRanges(file, name string) ([]idRange, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := ranges(f, name, os.Getuid())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list, nil
}

// write gives the user namespace of a process the map.
func (m mapping) write(pid int) error {
	var text []string
	for _, r := range m.list {
		for _, n := range []uint32{r.inside, r.outside, r.size} {
			text = append(text, strconv.FormatUint(uint64(n), 10))
		}
	}
	if m.tool != "" {
		out, err := exec.Command(m.tool, append([]string{strconv.Itoa(pid)}, text...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", filepath.Base(m.tool), err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	proc := "/proc/" + strconv.Itoa(pid)
	if m.kind == "gid" { // else the map of one's own group is refused
		if err := os.WriteFile(proc+"/setgroups", []byte("deny"), 0); err != nil {
			return fmt.Errorf("map the groups of the user namespace: %w", err)
		}
	}
	if err := os.WriteFile(proc+"/"+m.kind+"_map", []byte(strings.Join(text, " ")), 0); err != nil {
		return fmt.Errorf("map the IDs of the user namespace: %w", err)
	}
	return nil
}
