package seccomp

import (
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func TestParseArchName(t *testing.T) {
	for name, want := range map[string]Arch{
		"amd64": X86_64, "x86_64": X86_64, "SCMP_ARCH_X86_64": X86_64, "scmp_arch_x86": I386, "386": I386, "i686": I386, "x86": I386,
		"x32": X32, "ARM64": ARM64, "aarch64": ARM64, "arm": ARM, "s390x": syscalls.S390X, "mips64le": syscalls.MIPSEL64,
		"loong64": syscalls.LOONGARCH64, "ppc64le": syscalls.PPC64LE, "riscv64": syscalls.RISCV64,
	} {
		if got, err := ParseArchName(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		"amd46": "did you mean amd64?", "SCMP_ARCH_X86_46": "did you mean SCMP_ARCH_X86_64?", "": `unknown architecture ""`, "vax": `unknown architecture "vax"`,
	} {
		if got, err := ParseArchName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", name, got, err, want)
		}
	}
	for name := range ArchNames() {
		if _, err := ParseArchName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestParseCaps(t *testing.T) {
	for _, tc := range []struct {
		values []string
		want   capability.Set
	}{
		{[]string{"default"}, capability.Default()}, {[]string{"ALL"}, capability.Known()}, {[]string{"none"}, 0},
		{[]string{"sys_time,CAP_BPF", "Kill"}, capability.Of(capability.SYS_TIME, capability.BPF, capability.KILL)},
		{[]string{"default", "SYS_TIME"}, capability.Default().Add(capability.SYS_TIME)},
	} {
		if got, err := ParseCaps(tc.values); err != nil || got != tc.want {
			t.Errorf("%v: %v, %v", tc.values, got, err)
		}
	}
	for value, want := range map[string]string{"SYS_TME": "did you mean SYS_TIME?", "": "empty", "KILL,": "empty", "none,KILL": "stands alone"} {
		if got, err := ParseCaps([]string{value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", value, got, err, want)
		}
	}
}
