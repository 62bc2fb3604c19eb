package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
)

// networks lists what the store's containers have of networks on the host: nobody
// may hold an address, or have an interface, once there are none.
func (r *Root) networks() (found []string) {
	dirs, _ := filepath.Glob(filepath.Join(r.Dir, "networks", "*", "endpoints", "*"))
	for _, d := range dirs {
		found = append(found, "address "+d)
	}
	for _, bridge := range r.Bridges() {
		ports, _ := filepath.Glob("/sys/class/net/" + bridge + "/brif/*")
		for _, p := range ports {
			found = append(found, "interface "+p)
		}
	}
	return found
}

// Bridges are the names of the bridges of the store's networks, there or not.
func (r *Root) Bridges() (list []string) {
	configs, _ := filepath.Glob(filepath.Join(r.Dir, "networks", "*", "config.json"))
	for _, c := range configs {
		var n struct{ Bridge string }
		if b, err := os.ReadFile(c); err == nil && json.Unmarshal(b, &n) == nil {
			list = append(list, n.Bridge)
		}
	}
	return list
}

// Table is the name of the store's table in nftables.
func (r *Root) Table() string {
	sum := sha256.Sum256([]byte(filepath.Join(r.Dir, "networks")))
	return "brig-" + hex.EncodeToString(sum[:])[:8]
}

// pruneNetworks removes the store's networks, and says what is left of them.
func (r *Root) pruneNetworks() error {
	bridges := r.Bridges()
	if len(bridges) == 0 {
		return nil
	}
	if res := r.Run("network", "prune", "-f"); res.Code != 0 {
		return fmt.Errorf("brig network prune: exit code %d: %s", res.Code, res.Stderr)
	}
	var found []string
	for _, b := range bridges {
		if _, err := os.Stat("/sys/class/net/" + b); err == nil {
			found = append(found, "bridge "+b)
		}
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := conn.ListTables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.Name == r.Table() {
			found = append(found, "nftables table "+t.Name)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("left behind of networks: %s", strings.Join(found, ", "))
	}
	return nil
}
