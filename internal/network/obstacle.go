package network

import (
	"fmt"

	"github.com/google/nftables"
)

// Obstacles tells in words what keeps packets from containers that Brig cannot
// help: chains of other firewalls that drop what is forwarded unless a rule of
// their own accepts it. Of several chains at a hook, all must let a packet pass
// (nft(8), VERDICT STATEMENT), and to write rules into another's table would break
// it one day.
func (s *Store) Obstacles() (list []string) {
	conn, err := nftables.New()
	if err != nil {
		return nil
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil
	}
	for _, c := range chains {
		if c.Table == nil || c.Table.Name == s.tableName() || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward ||
			c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		list = append(list, fmt.Sprintf("the firewall drops forwarded packets by default (table %s %s, chain %s), so containers may not reach other hosts nor be reached; let Brig's bridges pass there",
			family(c.Table.Family), c.Table.Name, c.Name))
	}
	return list
}

func family(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyBridge:
		return "bridge"
	}
	return "inet"
}
