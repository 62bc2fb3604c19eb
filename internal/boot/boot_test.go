package boot

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A package that comes late in the order of initialization, or much of it, makes
// every monitor start later: Go initializes all that come before it first.
func TestImportsLittle(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, late := range []string{"fmt", "net", "net/netip", "path/filepath", "encoding/json", "golang.org/x/sys/unix", "github.com/vishvananda/netlink"} {
		if slices.Contains(deps, late) {
			t.Errorf("a monitor initializes %s", late)
		}
	}
}
