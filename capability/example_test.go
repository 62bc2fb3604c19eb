package capability_test

import (
	"fmt"

	"github.com/brig-run/brig/capability"
)

func ExampleParse() {
	c, _ := capability.Parse("sys_time")
	fmt.Println(c, uint8(c), c.Allows())
	_, err := capability.Parse("SYS_TMIE")
	fmt.Println(err)
	// Output:
	// CAP_SYS_TIME 25 Set the system clock and the hardware clock.
	// unknown capability "SYS_TMIE"; did you mean SYS_TIME?
}

// The usual way to run with least privilege: drop everything, add what is
// needed.
func ExampleResolve() {
	set, _ := capability.Resolve(capability.Default(), []string{"SYS_TIME"}, []string{"ALL"})
	fmt.Println(set)
	set, _ = capability.Resolve(capability.Default(), nil, []string{"audit_write,mknod", "CAP_SETFCAP", "setpcap"})
	fmt.Println(set.Len(), set.Has(capability.MKNOD))
	// Output:
	// CAP_SYS_TIME
	// 10 false
}

func ExampleSet() {
	s := capability.Of(capability.CHOWN, capability.KILL)
	fmt.Println(s.Add(capability.SYS_TIME).Minus(capability.Of(capability.CHOWN)))
	fmt.Printf("%016x\n", uint64(s))
	// Output:
	// CAP_KILL,CAP_SYS_TIME
	// 0000000000000021
}

func ExampleParseStatus() {
	status := "CapInh:\t0000000000000000\nCapPrm:\t0000000000000021\nCapEff:\t0000000000000021\n" +
		"CapBnd:\t0000000000000021\nCapAmb:\t0000000000000000\n"
	sets, _ := capability.ParseStatus([]byte(status))
	fmt.Println(sets.Bounding, sets.Ambient)
	// Output: CAP_CHOWN,CAP_KILL none
}
