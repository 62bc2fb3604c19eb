package nameserver

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// File is the name, in the container's directory, of the file that says where
// names are found.
const File = "names"

// Config says where names are found.
type Config struct {
	Networks []Network
	Upstream []Server // none: there is no way out
}

// Network is a network whose containers have names.
type Network struct {
	Name string
	Dir  string // of the files of its addresses
}

// Server is a name server to ask. It has no text form here: to read one takes a
// package that would make every monitor start later (package boot).
type Server struct {
	Addr string // 4 or 16 bytes
	Zone uint32 // number of the interface of a link-local address
}

// Write puts the file in place, in one step.
func (c *Config) Write(dir string) error {
	var b []byte
	for _, n := range c.Networks {
		b = append(b, "network "+n.Name+" "+n.Dir+"\n"...)
	}
	for _, s := range c.Upstream {
		b = append(b, "server "+Hex(s.Addr)+" "+strconv.Itoa(int(s.Zone))+"\n"...)
	}
	tmp := dir + "/." + File
	err := os.WriteFile(tmp, b, 0o600)
	if err == nil {
		err = os.Rename(tmp, dir+"/"+File)
	}
	return err
}

func parseConfig(b []byte) (c Config) {
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		first, second, _ := strings.Cut(value, " ")
		switch key {
		case "network":
			c.Networks = append(c.Networks, Network{first, second})
		case "server":
			zone, _ := strconv.ParseUint(second, 10, 32)
			if a := unhex(first); a != "" {
				c.Upstream = append(c.Upstream, Server{a, uint32(zone)})
			}
		}
	}
	return c
}

// Hex is how the files have an address.
func Hex(addr string) string {
	const digits = "0123456789abcdef"
	var b []byte
	for i := range len(addr) {
		b = append(b, digits[addr[i]>>4], digits[addr[i]&15])
	}
	return string(b)
}

// unhex is an address from its digits, "" if it is none.
func unhex(s string) string {
	if len(s) != 8 && len(s) != 32 {
		return ""
	}
	b := make([]byte, len(s)/2)
	for i := range b {
		n, err := strconv.ParseUint(s[2*i:2*i+2], 16, 8)
		if err != nil {
			return ""
		}
		b[i] = byte(n)
	}
	return string(b)
}

// table is what names there are, as of some moment.
type table struct {
	config Config
	stamps []time.Time // of the config's file and of each network's directory
	read   time.Time
	addrs  []map[string][]string // by network, of names in lower case: 4 or 16 bytes each
	names  map[string]string     // by address, with the network's name after a dot
}

// settled is how old a directory must be for its time to tell it from a later
// state: the file systems' clocks tick every 10 ms at most.
const settled = 100 * time.Millisecond

// current says whether the files are still as they were when they were read.
func (t *table) current(dir string) bool {
	if t == nil {
		return false
	}
	for i, stamp := range stamps(dir, &t.config) {
		if !stamp.Equal(t.stamps[i]) || t.read.Sub(stamp) < settled {
			return false
		}
	}
	return true
}

func stamps(dir string, c *Config) []time.Time {
	list := []time.Time{modified(dir + "/" + File)}
	for _, n := range c.Networks {
		list = append(list, modified(n.Dir))
	}
	return list
}

func modified(path string) time.Time {
	if fi, err := os.Stat(path); err == nil {
		return fi.ModTime()
	}
	return time.Time{}
}

// readTable reads all names. What cannot be read is not there.
func readTable(dir string) *table {
	t := &table{read: time.Now(), names: map[string]string{}}
	first := modified(dir + "/" + File)
	b, _ := os.ReadFile(dir + "/" + File)
	t.config = parseConfig(b)
	t.stamps = stamps(dir, &t.config)
	t.stamps[0] = first
	for _, n := range t.config.Networks {
		m := map[string][]string{}
		entries, _ := os.ReadDir(n.Dir)
		for _, e := range entries {
			if b, err := os.ReadFile(n.Dir + "/" + e.Name()); err == nil {
				t.add(m, n.Name, e.Name(), string(b))
			}
		}
		t.addrs = append(t.addrs, m)
	}
	return t
}

// add takes in the file of one address: it stands under each of a container's.
// The first name is the container's.
func (t *table) add(m map[string][]string, network, text, file string) {
	var addr string
	var names []string
	for line := range strings.Lines(file) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "name":
			names = append(names, value)
		case "address":
			if a, digits, _ := strings.Cut(value, " "); a == text {
				addr = unhex(digits)
			}
		}
	}
	if addr == "" || len(names) == 0 {
		return
	}
	t.names[addr] = names[0] + "." + network
	for _, n := range names {
		lower := strings.ToLower(n)
		m[lower] = append(m[lower], addr)
	}
}

// lookup finds the addresses of a name in lower case, without the final dot; also
// with a network's name after it.
func (t *table) lookup(name string) []string {
	for _, m := range t.addrs {
		if a := m[name]; len(a) > 0 {
			return a
		}
	}
	for i, n := range t.config.Networks {
		if short, ok := strings.CutSuffix(name, "."+strings.ToLower(n.Name)); ok {
			if a := t.addrs[i][short]; len(a) > 0 {
				return a
			}
		}
	}
	return nil
}
