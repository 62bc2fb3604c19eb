package network

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Default is the name of the network that --network bridge means. It makes
// itself when it is first used.
const Default = "bridge"

// Network is what was fixed when a network was made.
type Network struct {
	ID       string            `json:"id"` // 64 hexadecimal digits
	Name     string            `json:"name"`
	Created  time.Time         `json:"created"`
	Bridge   string            `json:"bridge"` // name of the interface
	Subnets  []Subnet          `json:"subnets"`
	Internal bool              `json:"internal,omitempty"` // no way out, and none in
	MTU      int               `json:"mtu,omitempty"`      // 0 is the kernel's default
	Labels   map[string]string `json:"labels,omitempty"`
	Options  map[string]string `json:"options,omitempty"` // as the user gave them
}

// Subnet is the addresses of a network in one family.
type Subnet struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway"`        // of the bridge
	Range   netip.Prefix `json:"range,omitzero"` // where addresses are given out; all of Prefix if unset
}

// Names says whether containers find each other by name there.
func (n *Network) Names() bool { return n.Name != Default }

// Family is the network's subnet for IPv4 or IPv6; nil if it has none.
func (n *Network) Family(v6 bool) *Subnet {
	for i := range n.Subnets {
		if n.Subnets[i].Prefix.Addr().Is6() == v6 {
			return &n.Subnets[i]
		}
	}
	return nil
}

// NotFoundError says that there is no such network.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { return "network " + e.Name + " not found" }

// Store is the networks of one root directory. It holds nothing in memory that
// is not on disk or in the kernel.
type Store struct {
	dir   string
	owner string // names the interfaces and the table
	// Alive says whether a container still needs its addresses.
	Alive func(container string) bool
}

// Open gives the networks in a directory, which is made when needed. ours says
// that the root is the machine's usual one, whose interfaces and tables carry
// short names.
func Open(dir string, ours bool, alive func(string) bool) *Store {
	s := &Store{dir: dir, Alive: alive}
	if !ours {
		s.owner = hash(dir)[:8]
	}
	return s
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// lock takes the lock of all networks, LOCK_SH or LOCK_EX.
func (s *Store) lock(how int) (*os.File, error) { return s.flock("lock", how) }

func (s *Store) flock(name string, how int) (*os.File, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock the networks: %w", err)
	}
	return flockFile(s.path(name), how)
}

func flockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the networks: %w", err)
	}
	for {
		switch err := unix.Flock(int(f.Fd()), how); err {
		case nil:
			return f, nil
		case unix.EINTR:
		default:
			f.Close()
			return nil, fmt.Errorf("lock the networks: %w", err)
		}
	}
}

// EndpointDir is the directory of a network's addresses.
func (s *Store) EndpointDir(name string) string { return s.path(name, "endpoints") }

// machineLock takes a lock that all roots of the machine share.
func (s *Store) machineLock() (*os.File, error) {
	const dir = "/run/brig"
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("lock the machine's networks: %w", err)
	}
	return flockFile(dir+"/networks.lock", unix.LOCK_EX)
}

// CheckName refuses what cannot be a network's name.
func CheckName(name string) error {
	ok := name != "" && len(name) <= 128
	for i, c := range []byte(name) {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		ok = ok && (alnum || i > 0 && strings.IndexByte("_.-", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("network name %q: use letters, digits, \"_\", \".\" and \"-\", beginning with a letter or digit", name)
	}
	switch name {
	case Default, "none", "host", "private", "default", "lock":
		return fmt.Errorf("network name %q is reserved: choose another", name)
	}
	return nil
}

// Create makes a network. Its bridge comes with its first container.
func (s *Store) Create(o CreateOptions) (*Network, error) {
	if err := CheckName(o.Name); err != nil {
		return nil, err
	}
	l, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return s.create(o)
}

func (s *Store) create(o CreateOptions) (*Network, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	n := &Network{ID: newID(), Name: o.Name, Created: time.Now().UTC(), Internal: o.Internal, MTU: o.MTU, Labels: o.Labels, Options: o.Options}
	n.Bridge = s.bridgeName(n, o.Bridge)
	for _, other := range all {
		switch {
		case other.Name == o.Name:
			return nil, fmt.Errorf("network with name %s already exists", o.Name)
		case other.Bridge == n.Bridge:
			return nil, fmt.Errorf("network %s: the bridge %s belongs to network %s; choose another", o.Name, n.Bridge, other.Name)
		}
	}
	if n.Subnets, err = s.subnets(&o, all); err != nil {
		return nil, fmt.Errorf("network %s: %w", o.Name, err)
	}
	if err := s.save(n); err != nil {
		return nil, fmt.Errorf("make network %s: %w", o.Name, err)
	}
	return n, nil
}

func (s *Store) bridgeName(n *Network, wanted string) string {
	switch {
	case wanted != "":
		return wanted
	case n.Name == Default && s.owner == "":
		return "brig0"
	}
	return "br-" + n.ID[:12]
}

// save puts a network on disk in one rename.
func (s *Store) save(n *Network) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	tmp := s.path("." + n.ID)
	err = os.MkdirAll(filepath.Join(tmp, "endpoints"), 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(tmp, "config.json"), b, 0o600)
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, s.path(n.Name), unix.RENAME_NOREPLACE)
	}
	if err != nil {
		os.RemoveAll(tmp)
	}
	return err
}

// List gives the networks, by name; not the default one before its first use.
func (s *Store) List() ([]*Network, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the networks: %w", err)
	}
	var list []*Network
	for _, e := range entries {
		if !e.IsDir() || e.Name()[0] == '.' {
			continue
		}
		n, err := s.load(e.Name())
		var gone *NotFoundError
		switch {
		case errors.As(err, &gone):
		case err != nil:
			return nil, err
		default:
			list = append(list, n)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

func (s *Store) load(name string) (*Network, error) {
	b, err := os.ReadFile(s.path(name, "config.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, &NotFoundError{name}
	}
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", name, err)
	}
	n := &Network{}
	if err := json.Unmarshal(b, n); err != nil {
		return nil, fmt.Errorf("network %s: config.json: %w", name, err)
	}
	return n, nil
}

// Find finds a network by its name, its ID, or the beginning of that. The
// default network is made if it is not there yet.
func (s *Store) Find(name string) (*Network, error) {
	if name == Default || name == "default" {
		return s.defaultNetwork()
	}
	if CheckName(name) != nil {
		return nil, &NotFoundError{name}
	}
	n, err := s.load(name)
	var gone *NotFoundError
	if !errors.As(err, &gone) {
		return n, err
	}
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n *Network) bool { return !strings.HasPrefix(n.ID, name) })
	switch len(all) {
	case 1:
		return all[0], nil
	case 0:
		return nil, &NotFoundError{name}
	}
	return nil, fmt.Errorf("network %s: %d networks have IDs that begin so; write more of it", name, len(all))
}

func (s *Store) defaultNetwork() (*Network, error) {
	n, err := s.load(Default)
	var gone *NotFoundError
	if !errors.As(err, &gone) {
		return n, err
	}
	l, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if n, err = s.load(Default); !errors.As(err, &gone) {
		return n, err // another was faster
	}
	return s.create(CreateOptions{Name: Default, IPv6: readSysctl("ipv6/conf/all/disable_ipv6") == "0"})
}

// InUseError says that a network cannot go while containers are in it.
type InUseError struct {
	Name       string
	Containers []string // their names
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("network %s has active endpoints (%s): stop or disconnect these containers first", e.Name, strings.Join(e.Containers, ", "))
}

// Remove removes a network without containers, and its bridge.
func (s *Store) Remove(name string) error {
	if name == Default || name == "default" {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed", name)
	}
	n, err := s.Find(name)
	if err != nil {
		return err
	}
	l, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.Close()
	return s.remove(n)
}

func (s *Store) remove(n *Network) error {
	if err := s.sweep(n); err != nil {
		return err
	}
	list, err := s.Endpoints(n)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		names := make([]string, len(list))
		for i, e := range list {
			names[i] = e.Name
		}
		return &InUseError{n.Name, names}
	}
	if err := s.takeDown(n); err != nil {
		return fmt.Errorf("remove network %s: %w", n.Name, err)
	}
	gone := s.path("." + n.ID)
	if err := os.Rename(s.path(n.Name), gone); err != nil {
		return fmt.Errorf("remove network %s: %w", n.Name, err)
	}
	return os.RemoveAll(gone)
}

// Prune removes the networks without containers that keep lets go, and tells
// their names. The default one stays, without its bridge.
func (s *Store) Prune(keep func(*Network) bool) ([]string, error) {
	l, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	s.emptyTrash()
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, n := range all {
		if keep(n) {
			continue
		}
		err := s.pruneOne(n)
		var used *InUseError
		switch {
		case errors.As(err, &used):
		case err != nil:
			return gone, err
		case n.Name != Default:
			gone = append(gone, n.Name)
		}
	}
	return gone, nil
}

func (s *Store) pruneOne(n *Network) error {
	if n.Name != Default {
		return s.remove(n)
	}
	if err := s.sweep(n); err != nil {
		return err
	}
	if list, err := s.Endpoints(n); err != nil || len(list) > 0 {
		return err
	}
	return s.takeDown(n)
}

// emptyTrash deletes what a killed command left half-made or half-removed.
func (s *Store) emptyTrash() {
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		if e.Name()[0] == '.' {
			os.RemoveAll(s.path(e.Name()))
		}
	}
}

func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
