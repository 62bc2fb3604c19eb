package report

import (
	"testing"

	"github.com/brig-run/brig/internal/policy"
)

func arg(index uint8, values ...uint64) policy.Arg { return policy.Arg{Index: index, Values: values} }

func TestCallWords(t *testing.T) {
	more := arg(1, 0x5401)
	more.More = true
	tests := []struct {
		name string
		args []policy.Arg
		want string
	}{
		{"socket", []policy.Arg{arg(0, 2), arg(1, 1), arg(2, 0)}, "socket(AF_INET, SOCK_STREAM, 0)"},
		{"socket", []policy.Arg{arg(0, 1, 10), arg(1, 0x80802)}, "socket(AF_UNIX or AF_INET6, SOCK_DGRAM|SOCK_NONBLOCK|SOCK_CLOEXEC, …)"},
		{"socket", []policy.Arg{arg(0, 16), arg(1, 3), arg(2, 6)}, "socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM)"},
		{"socket", []policy.Arg{arg(0, 2, 16), arg(1, 3), arg(2, 6)}, "socket(AF_INET or AF_NETLINK, SOCK_RAW, IPPROTO_TCP/NETLINK_XFRM)"},
		{"socket", []policy.Arg{arg(0, 99)}, "socket(0x63, …)"},
		{"setsockopt", []policy.Arg{arg(1, 1, 6), arg(2, 2, 15, 77777)}, "setsockopt(…, SOL_SOCKET or SOL_TCP, SO_REUSEADDR/TCP_MAXSEG or SO_REUSEPORT or 0x12fd1, …)"},
		{"mmap", []policy.Arg{arg(2, 0, 5)}, "mmap(…, …, PROT_NONE or PROT_READ|PROT_EXEC, …)"},
		{"clone", []policy.Arg{arg(0, 0x1200011, 17, 0x10000000)}, "clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD or SIGCHLD or CLONE_NEWUSER, …)"},
		{"personality", []policy.Arg{arg(0, 0, 0x40000, 0xffffffff)}, "personality(PER_LINUX or PER_LINUX|ADDR_NO_RANDOMIZE or 0xffffffff (query))"},
		{"prctl", []policy.Arg{arg(0, 38)}, "prctl(PR_SET_NO_NEW_PRIVS, …)"},
		{"ioctl", []policy.Arg{more}, "ioctl(…, TCGETS or others, …)"},
		{"unshare", []policy.Arg{arg(0, 0x20000, 0)}, "unshare(CLONE_NEWNS or 0)"},
		{"ptrace", []policy.Arg{arg(0, 16)}, "ptrace(PTRACE_ATTACH, …)"},
		{"bpf", []policy.Arg{arg(0, 5)}, "bpf(BPF_PROG_LOAD, …)"},
		{"lseek", []policy.Arg{arg(2, 1, 0xfff)}, "lseek(…, …, 1 or 0xfff)"},
		{"no_such_call", []policy.Arg{arg(1)}, "no_such_call(…, …)"},
		{"read", nil, ""},
		{"read", []policy.Arg{arg(200, 1)}, ""},
	}
	for _, test := range tests {
		if got := callWords(test.name, test.args); got != test.want {
			t.Errorf("%s %v:\ngot  %s\nwant %s", test.name, test.args, got, test.want)
		}
	}
}
