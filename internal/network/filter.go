package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	mnl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Port is a published port: what comes to the host's goes to the container's.
type Port struct {
	Protocol string     `json:"protocol"`        // "tcp" or "udp"
	HostIP   netip.Addr `json:"hostIP,omitzero"` // unset: all of the host
	HostPort uint16     `json:"hostPort"`
	Port     uint16     `json:"port"` // of the container
}

// filter is the table of nftables that a store has. Its rules never change:
// what networks and containers there are, they look up in sets and maps, so
// that a packet passes as few rules for a thousand containers as for one.
type filter struct {
	conn  *nftables.Conn
	table *nftables.Table

	bridges, internal, same    *nftables.Set // of interface names; same: pairs of equal ones
	any4, at4, any6, at6       *nftables.Set // published ports, of all of the host's addresses or of one
	subnets4, subnets6         *nftables.Set // of the networks
	guard, prerouting, output  *nftables.Chain
	publish, postrouting, pass *nftables.Chain
}

func (s *Store) tableName() string {
	if s.owner == "" {
		return "brig"
	}
	return "brig-" + s.owner
}

func (s *Store) newFilter(opts ...nftables.ConnOption) (*filter, error) {
	conn, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("talk to nftables: %w", err)
	}
	f := &filter{conn: conn, table: &nftables.Table{Name: s.tableName(), Family: nftables.TableFamilyINet}}
	set := func(name string, key ...nftables.SetDatatype) *nftables.Set {
		x := &nftables.Set{Table: f.table, Name: name, KeyType: key[0]}
		if len(key) > 1 {
			x.KeyType, x.Concatenation = nftables.MustConcatSetType(key...), true
		}
		return x
	}
	ports := func(name string, addr nftables.SetDatatype, key ...nftables.SetDatatype) *nftables.Set {
		x := set(name, append(key, nftables.TypeInetProto, nftables.TypeInetService)...)
		x.IsMap, x.DataType = true, nftables.MustConcatSetType(addr, nftables.TypeInetService)
		return x
	}
	f.bridges, f.internal = set("bridges", nftables.TypeIFName), set("internal", nftables.TypeIFName)
	f.same = set("same", nftables.TypeIFName, nftables.TypeIFName)
	f.any4, f.at4 = ports("any4", nftables.TypeIPAddr), ports("at4", nftables.TypeIPAddr, nftables.TypeIPAddr)
	f.any6, f.at6 = ports("any6", nftables.TypeIP6Addr), ports("at6", nftables.TypeIP6Addr, nftables.TypeIP6Addr)
	f.subnets4, f.subnets6 = set("subnets4", nftables.TypeIPAddr), set("subnets6", nftables.TypeIP6Addr)
	f.subnets4.Interval, f.subnets6.Interval = true, true
	f.chains()
	return f, nil
}

func (f *filter) close() { f.conn.CloseLasting() }

func (f *filter) chains() {
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return &nftables.Chain{Name: name, Table: f.table, Type: kind, Hooknum: hook, Priority: prio}
	}
	f.guard = chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	f.prerouting = chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	f.output = chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	f.publish = chain("publish", "", nil, nil)
	f.postrouting = chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	f.pass = chain("pass", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
}

func (f *filter) allSets() []*nftables.Set {
	return []*nftables.Set{f.bridges, f.internal, f.same, f.any4, f.at4, f.any6, f.at6, f.subnets4, f.subnets6}
}

func (f *filter) allChains() []*nftables.Chain {
	return []*nftables.Chain{f.guard, f.publish, f.prerouting, f.output, f.postrouting, f.pass}
}

// Parts of rules. Registers are named by the kernel's numbers: 1 is the first
// of 16 bytes, and 8 and up are those of 4 bytes, over the same memory
// (include/uapi/linux/netfilter/nf_tables.h).

type rule []expr.Any

func in(set *nftables.Set) rule {
	return rule{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: set.Name}}
}

func out(set *nftables.Set, not bool) rule {
	return rule{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: set.Name, Invert: not}}
}

// from matches a source in a set of subnets.
func from(set *nftables.Set, v6 bool) rule {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if v6 {
		family, offset, size = unix.NFPROTO_IPV6, 8, 16
	}
	return append(ipv(family), &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name})
}

func ipv(proto byte) rule {
	return rule{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}}}
}

// loopback4 matches 127.0.0.0/8 at an offset of the IPv4 header: 12 is the
// source, 16 the destination.
func loopback4(offset uint32) rule {
	return append(ipv(unix.NFPROTO_IPV4),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{127}})
}

// loopback6 matches what is for ::1.
func loopback6() rule {
	return append(ipv(unix.NFPROTO_IPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: netip.IPv6Loopback().AsSlice()})
}

// toHost matches what is for an address of the machine itself.
func toHost() rule {
	return rule{&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)}}
}

// ct matches if a bit of a connection's state or status is set.
func ct(key expr.CtKey, bits uint32) rule {
	return rule{&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)}}
}

const (
	ipsDstNAT   = 1 << 5 // IPS_DST_NAT, include/uapi/linux/netfilter/nf_conntrack_common.h
	established = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
)

func dstPort(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

func verdict(kind expr.VerdictKind, chain string) rule {
	return rule{&expr.Verdict{Kind: kind, Chain: chain}}
}

func join(parts ...rule) (r rule) {
	for _, p := range parts {
		r = append(r, p...)
	}
	return r
}

// redirect sends what matches an entry of published ports on.
func redirect(set *nftables.Set, v6, one bool) rule {
	family, proto, port, addrLen, addrOffset := byte(unix.NFPROTO_IPV4), uint32(8), uint32(9), uint32(4), uint32(16)
	if v6 {
		family, addrLen, addrOffset = unix.NFPROTO_IPV6, 16, 24
		port = 12
	}
	r := ipv(family)
	key := uint32(8)
	if one { // the key begins with the address
		r = append(r, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: addrOffset, Len: addrLen})
		proto = key + addrLen/4
	}
	r = append(r, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto}, dstPort(proto+1),
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: set.Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegAddrMin: 1, RegProtoMin: port, Specified: true})
	return r
}

// rules are all rules of the table, in order.
func (f *filter) rules() map[*nftables.Chain][]rule {
	drop, accept := verdict(expr.VerdictDrop, ""), verdict(expr.VerdictAccept, "")
	masquerade := rule{&expr.Masq{}}
	published := verdict(expr.VerdictJump, f.publish.Name)
	pair := rule{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 2},
		&expr.Lookup{SourceRegister: 1, SetName: f.same.Name}}
	return map[*nftables.Chain][]rule{
		// The bridges route loopback addresses, for connections of the host to
		// its own published ports. Nothing on a bridge may use them.
		f.guard:      {join(in(f.bridges), loopback4(16), drop), join(in(f.bridges), loopback4(12), drop)},
		f.prerouting: {join(toHost(), published)},
		f.output:     {join(loopback6(), accept), join(toHost(), published)}, // see package relay
		f.publish:    {redirect(f.at4, false, true), redirect(f.any4, false, false), redirect(f.at6, true, true), redirect(f.any6, true, false)},
		f.postrouting: {
			join(in(f.bridges), out(f.bridges, true), masquerade),
			// A container that reaches itself, or one of its own bridge, through a
			// published port must get the answer by way of the host, too. Bridged
			// packets have no interface here that they came in by.
			join(out(f.bridges, false), ct(expr.CtKeySTATUS, ipsDstNAT), from(f.subnets4, false), masquerade),
			join(out(f.bridges, false), ct(expr.CtKeySTATUS, ipsDstNAT), from(f.subnets6, true), masquerade),
			join(out(f.bridges, false), loopback4(12), masquerade)},
		f.pass: {
			join(pair, accept), // one bridge, where bridged packets are filtered (br_netfilter)
			join(in(f.internal), drop),
			join(out(f.internal, false), drop),
			join(out(f.bridges, false), ct(expr.CtKeySTATE, established), accept),
			join(out(f.bridges, false), ct(expr.CtKeySTATUS, ipsDstNAT), accept),
			join(out(f.bridges, false), drop)},
	}
}

// whole says whether the table is there with all its rules.
func (f *filter) whole() bool {
	for chain, want := range f.rules() {
		got, err := f.conn.GetRules(f.table, chain)
		if err != nil || len(got) != len(want) {
			return false
		}
	}
	return true
}

// rebuild makes the table anew, with these elements, in one step: there is no
// moment without rules.
func (f *filter) rebuild(all map[*nftables.Set][]nftables.SetElement) error {
	// A kernel without nf_tables answers a batch with a single error, and the
	// library waits for one of each message.
	if _, err := f.conn.ListTablesOfFamily(f.table.Family); err != nil {
		return fmt.Errorf("list the tables of nftables, which this kernel may lack (CONFIG_NF_TABLES, the module nf_tables): %w", err)
	}
	f.conn.AddTable(f.table)
	f.conn.DelTable(f.table)
	f.conn.AddTable(f.table)
	for i, set := range f.allSets() {
		set.ID = uint32(i + 1)
		if err := f.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
	}
	for _, c := range f.allChains() {
		f.conn.AddChain(c)
	}
	rules := f.rules()
	for _, c := range f.allChains() {
		for _, r := range rules[c] {
			f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: r})
		}
	}
	for set, elements := range all {
		if err := f.add(set, elements); err != nil {
			return err
		}
	}
	if err := f.conn.Flush(); err != nil {
		return fmt.Errorf("set up the nftables table %s: %w", f.table.Name, cause(err))
	}
	return nil
}

// cause returns what the kernel answered first: it answers to each message of a
// batch, and they fail for the same reason.
func cause(err error) error {
	var errno unix.Errno
	switch {
	case !errors.As(err, &errno):
		return err
	case errno == unix.ENOENT || errno == unix.EOPNOTSUPP || errno == unix.EAFNOSUPPORT:
		return fmt.Errorf("this kernel may lack one of the modules nft_chain_nat, nft_ct, nft_fib_inet, nft_masq and nft_nat: %w", errno)
	}
	return errno
}

// chunk is how many elements go into one message, whose length has 16 bits.
const chunk = 256

func (f *filter) add(set *nftables.Set, elements []nftables.SetElement) error {
	for len(elements) > 0 {
		n := min(chunk, len(elements))
		if err := f.conn.SetAddElements(set, elements[:n]); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
		elements = elements[n:]
	}
	return nil
}

func (f *filter) remove(set *nftables.Set, elements []nftables.SetElement) error {
	for len(elements) > 0 {
		n := min(chunk, len(elements))
		if err := f.conn.SetDeleteElements(set, elements[:n]); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
		elements = elements[n:]
	}
	return nil
}

// drop removes the table.
func (f *filter) drop() error {
	f.conn.AddTable(f.table)
	f.conn.DelTable(f.table)
	return f.conn.Flush()
}

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// padded makes a part of a concatenated key: parts have multiples of 4 bytes.
func padded(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }

// ofNetwork are the elements that a network with a bridge has.
func (f *filter) ofNetwork(all map[*nftables.Set][]nftables.SetElement, n *Network) {
	name := ifname(n.Bridge)
	all[f.bridges] = append(all[f.bridges], nftables.SetElement{Key: name})
	all[f.same] = append(all[f.same], nftables.SetElement{Key: append(ifname(n.Bridge), name...)})
	if n.Internal {
		all[f.internal] = append(all[f.internal], nftables.SetElement{Key: name})
	}
	for _, sub := range n.Subnets {
		set := f.subnets4
		if sub.Prefix.Addr().Is6() {
			set = f.subnets6
		}
		all[set] = append(all[set], nftables.SetElement{Key: sub.Prefix.Addr().AsSlice()},
			nftables.SetElement{Key: last(sub.Prefix).Next().AsSlice(), IntervalEnd: true})
	}
}

// ofPorts are the elements of ports published to a container's addresses.
func (f *filter) ofPorts(all map[*nftables.Set][]nftables.SetElement, ports []Port, addrs []netip.Addr) {
	for _, p := range ports {
		for _, a := range addrs {
			if p.HostIP.IsValid() && p.HostIP.Is4() != a.Is4() {
				continue
			}
			set := f.any4
			switch {
			case a.Is4() && p.HostIP.IsValid():
				set = f.at4
			case a.Is6() && p.HostIP.IsValid():
				set = f.at6
			case a.Is6():
				set = f.any6
			}
			var key []byte
			if p.HostIP.IsValid() {
				key = p.HostIP.AsSlice()
			}
			proto := byte(unix.IPPROTO_TCP)
			if p.Protocol == "udp" {
				proto = unix.IPPROTO_UDP
			}
			key = append(append(key, padded([]byte{proto})...), padded(be16(p.HostPort))...)
			if slices.ContainsFunc(all[set], func(e nftables.SetElement) bool { return bytes.Equal(e.Key, key) }) {
				continue // whose container is about to be refused it
			}
			all[set] = append(all[set], nftables.SetElement{Key: key, Val: append(a.AsSlice(), padded(be16(p.Port))...)})
		}
	}
}

// removal gives the messages that remove a container's elements, for the log
// of what is to be undone.
func (s *Store) removal(ports []Port, addrs []netip.Addr) ([]byte, error) {
	var sent []mnl.Message
	f, err := s.newFilter(nftables.WithTestDial(func(m []mnl.Message) ([]mnl.Message, error) {
		sent = append(sent, m...)
		return nil, nil
	}))
	if err != nil {
		return nil, err
	}
	all := map[*nftables.Set][]nftables.SetElement{}
	f.ofPorts(all, ports, addrs)
	for set, elements := range all {
		if err := f.remove(set, elements); err != nil {
			return nil, err
		}
	}
	f.conn.Flush() // there is no kernel to answer
	var batch []byte
	for i, m := range sent {
		m.Header.Sequence, m.Header.PID = uint32(i+1), 0
		m.Header.Flags &^= mnl.Acknowledge
		b, err := m.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("nftables: %w", err)
		}
		batch = append(batch, b...)
	}
	if len(batch) == 0 {
		return nil, errors.New("nftables: made no messages to remove published ports")
	}
	return batch, nil
}

func (p Port) String() string {
	host := p.HostIP.String()
	if !p.HostIP.IsValid() {
		host = "0.0.0.0"
	} else if p.HostIP.Is6() {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d->%d/%s", host, p.HostPort, p.Port, strings.ToLower(p.Protocol))
}
