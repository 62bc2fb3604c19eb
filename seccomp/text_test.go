package seccomp

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseText(t *testing.T) {
	docker := func(head, rules string) string { return "{" + head + `, "syscalls": [` + rules + "]}" }
	const eperm = `"defaultAction": "SCMP_ACT_ERRNO"`
	for _, tc := range []struct{ text, json string }{
		{"default errno EPERM", docker(eperm, "")},
		{"default kill-thread", docker(`"defaultAction": "SCMP_ACT_KILL"`, "")},
		{"default trace 7", docker(`"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 7`, "")},
		{"default errno 38 # ENOSYS", docker(eperm+`, "defaultErrnoRet": 38`, "")},
		{"default errno EPERM\narch amd64: x86 x32\narch arm64: arm\narch riscv64:",
			docker(eperm+`, "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
			{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}, {"architecture": "SCMP_ARCH_RISCV64"}]`, "")},
		{"default errno EPERM\narch amd64\n  x86", docker(eperm+`, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]`, "")},
		{"default errno EPERM\nflag LOG TSYNC", docker(eperm+`, "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]`, "")},
		{"default errno EPERM\nflag none", docker(eperm+`, "flags": []`, "")},
		{"listener /run/a \"b c\"\ndefault errno EPERM", docker(eperm+`, "listenerPath": "/run/a", "listenerMetadata": "b c"`, "")},
		{"default errno EPERM\nallow read write\r\n\tclose # not this\n  # nor this\n  open\n",
			docker(eperm, `{"names": ["read", "write", "close", "open"], "action": "SCMP_ACT_ALLOW"}`)},
		{"default errno EPERM\n# not this\n\n# one\n# two\nallow read\n# nor this\n\nlog write",
			docker(eperm, `{"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "one\ntwo"}, {"names": ["write"], "action": "SCMP_ACT_LOG"}`)},
		{"default errno EPERM\nallow ioctl when arg0==1 and arg1 & 0x0f == 0o7 and arg2 != -1 and arg3<010 and arg4 >= 3 and arg5 <= 4",
			docker(eperm, `{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
			{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 15, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"},
			{"index": 2, "value": 18446744073709551615, "op": "SCMP_CMP_NE"}, {"index": 3, "value": 8, "op": "SCMP_CMP_LT"},
			{"index": 4, "value": 3, "op": "SCMP_CMP_GE"}, {"index": 5, "value": 4, "op": "SCMP_CMP_LE"}]}`)},
		{"default errno EPERM\nallow socket socketpair when arg0 == AF_UNIX or arg0 == AF_INET",
			docker(eperm, `{"names": ["socket", "socketpair"], "action": "SCMP_ACT_ALLOW", "args": [
			{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}`)},
		{"default errno EPERM\nallow socket when arg0 == AF_UNIX or arg1 > 4",
			docker(eperm, `{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
			{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 4, "op": "SCMP_CMP_GT"}]}`)},
		{"default errno EPERM\nerrno ENOSYS clone when arg0 & CLONE_NEWUSER | CLONE_NEWNS == 0 unless cap SYS_ADMIN|CAP_BPF or arch s390 | s390x or kernel >= 5.10",
			docker(eperm, `{"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [
			{"index": 0, "value": 268566528, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
			"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"], "arches": ["s390", "s390x"], "minKernel": "5.10"}}`)},
		{"default errno EPERM\ntrap prctl if cap SYS_ADMIN and cap BPF and arch amd64|x86 and kernel>=4.8 unless cap CHOWN or cap KILL when arg0 == PR_SET_MM",
			docker(eperm, `{"names": ["prctl"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 35, "op": "SCMP_CMP_EQ"}],
			"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"], "arches": ["amd64", "x86"], "minKernel": "4.8"}, "excludes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}}`)},
	} {
		p, err := ParseText("p", []byte(tc.text))
		if err != nil {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		if got, want := said(p), said(mustParse(t, tc.json)); got != want {
			t.Errorf("%q:\n got %s\nwant %s", tc.text, got, want)
		}
	}
}

func TestParseTextErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", `p: no default action; begin with a line such as "default errno EPERM"`},
		{"default", "p:1: an action is missing, such as allow or errno EPERM"},
		{"default alow", `p:1: unknown action "alow"; did you mean allow?`},
		{"default SCMP_ACT_ALLOW", `p:1: unknown action "SCMP_ACT_ALLOW"; did you mean allow?`},
		{"default kill", `p:1: unknown action "kill"; write kill-process or kill-thread`},
		{"default notify", "p:1: notify cannot be the default action"},
		{"default errno", "p:1: errno needs a number"},
		{"default errno EPREM", `p:1: unknown error "EPREM"; did you mean EPERM?`},
		{"default errno 4096", "p:1: 4096 is no error number; they go from 0 to 4095"},
		{"default trace x", `p:1: "x" is no message for a tracer; trace is followed by a number from 0 to 65535`},
		{"default allow read", `p:1: "read" after the default action; rules are lines of their own`},
		{"default allow\n\ndefault allow", "p:3: default given twice"},
		{"default allow\ntrap raed", `p:2: unknown system call "raed"; did you mean read?`},
		{"default allow\ntrap read\n  write\n  wrte", `p:4: unknown system call "wrte"; did you mean write?`},
		{"default allow\ntrap", "p:2: trap names no system call"},
		{"default allow\nread write", `p:2: read is a system call; a line begins with an action, as in "allow read"`},
		{"default allow\ntrpa read", `p:2: unknown keyword "trpa"; did you mean trap?`},
		{"  default allow", "p:1: an indented line continues the statement above it, and there is none"},
		{"default allow\n\n  trap read", "p:3: an indented line continues the statement above it, and there is none"},
		{"default allow\narch", `p:2: arch needs a name, as in "arch amd64: x86 x32"`},
		{"default allow\narch x86_64", `p:2: unknown architecture "x86_64"; did you mean amd64?`},
		{"default allow\narch i386", `p:2: unknown architecture "i386"; did you mean x86?`},
		{"default allow\narch amd46", `p:2: unknown architecture "amd46"; did you mean amd64?`},
		{"default allow\narch amd64\narch arm64: arm", "p:3: a list of architectures cannot be given together with families of them; use one of both"},
		{"default allow\narch amd64\narch arm64", "p:3: architectures given twice; list them on one line"},
		{"default allow\narch amd64:\narch amd64: x86", "p:3: amd64 is mapped twice"},
		{"default allow\nflag", `p:2: flag needs a name, as in "flag LOG", or none`},
		{"default allow\nflag LGO", `p:2: unknown flag "LGO"; did you mean LOG?`},
		{"default allow\nflag NEW_LISTENER", `p:2: flag "NEW_LISTENER" cannot be asked for; it is set where notify needs it`},
		{"default allow\nflag LOG\nflag none", "p:3: flag none beside other flags"},
		{"default allow\nflag none\nflag LOG", "p:3: other flags beside flag none"},
		{"default allow\nlistener a b c", "p:2: listener needs a path and takes one string for the listener; write words with blanks in double quotes"},
		{"default allow\nlistener a\nlistener b", "p:3: listener given twice"},
		{"default allow\nlistener \"a", `p:2: a string that begins with a quote has no end, or an unknown \ in it`},
		{"default allow\nlistener \"a\"b", `p:2: a blank is missing after "a"`},
		{"default allow\ntrap read when", `p:2: an argument, arg0 to arg5, is missing after "when"`},
		{"default allow\ntrap read when fd == 1", `p:2: an argument, arg0 to arg5, is missing before "fd"`},
		{"default allow\ntrap read when arg6 == 1", "p:2: arg6: a system call has only the arguments arg0 to arg5"},
		{"default allow\ntrap read when arg0 = 1", `p:2: unknown operator "="; did you mean ==?`},
		{"default allow\ntrap read when arg0 === 1", `p:2: one of the operators == != < <= > >= & is missing before "==="`},
		{"default allow\ntrap read when arg0 ==", `p:2: a number is missing after "=="`},
		{"default allow\ntrap read when arg0 == 1_0", `p:2: "1_0" is neither a number nor a constant for this argument`},
		{"default allow\ntrap read when arg0 == 18446744073709551616", "p:2: 18446744073709551616 is no whole number from 0 to 2^64-1"},
		{"default allow\ntrap read when arg0 == AF_UNIX", `p:2: "AF_UNIX" is neither a number nor a constant for this argument`},
		{"default allow\ntrap socket when arg0 == AF_UNX", `p:2: "AF_UNX" is no number; did you mean AF_UNIX?`},
		{"default allow\ntrap clone when arg0 & CLONE_NEWTIME == 0", `p:2: "CLONE_NEWTIME" is no number; did you mean CLONE_NEWIPC?`},
		{"default allow\ntrap read when arg0 & 1", `p:2: == after a mask is missing after "1"`},
		{"default allow\ntrap read when arg0 & 1 == 2", "p:2: arg0: never holds: valueTwo 0x2 has bits outside of the mask 0x1 in value"},
		{"default allow\ntrap read when arg0 < 0", "p:2: arg0: never holds: no argument is below 0"},
		{"default allow\ntrap read when arg0 >= 1 and arg0 <= 5", `p:2: an argument is compared twice; a rule cannot ask for both: use "or", or a mask`},
		{"default allow\ntrap read when arg0 == 1 and arg1 == 1 or arg2 == 5", "p:2: and beside or; write a rule for each alternative"},
		{"default allow\ntrap read when arg0 == 1 arg1 == 2", `p:2: and, or, if or unless is missing before "arg1"`},
		{"default allow\ntrap read if", `p:2: cap, arch or kernel is missing after "if"`},
		{"default allow\ntrap read if cap", `p:2: a capability is missing after "cap"`},
		{"default allow\ntrap read if cap SYS_ADMN", `p:2: unknown capability "SYS_ADMN"; did you mean SYS_ADMIN?`},
		{"default allow\ntrap read if cap BPF|CHOWN", `p:2: "if" needs each capability that it names; write "and cap NAME"`},
		{"default allow\ntrap read if cap BPF or cap CHOWN", `p:2: every part of "if" is needed; join them with "and", or write a rule for each`},
		{"default allow\ntrap read unless cap BPF and cap CHOWN", `p:2: any part of "unless" suffices; join them with "or"`},
		{"default allow\ntrap read if cap BPF CHOWN", `p:2: and is missing before "CHOWN"`},
		{"default allow\ntrap read if arch amd64 and arch x86", `p:2: arch given twice; write the alternatives as "arch amd64|arm64"`},
		{"default allow\ntrap read if kernel 5.4", `p:2: >= after kernel is missing before "5.4"`},
		{"default allow\ntrap read if kernel >= 5", `p:2: invalid kernel version "5"; write it as "5.14"`},
		{"default allow\ntrap read if kernel >= 5.1 and kernel >= 5.2", "p:2: kernel given twice"},
		{"default allow\ntrap read if cap BPF\n  if cap CHOWN", "p:3: if given twice in one rule"},
		{"default allow\n\"trap\" read", "p:2: a line begins with a keyword, not with a string"},
		{"default allow\n\xff", "p:2: not valid UTF-8 text"},
	} {
		_, err := ParseText("p", []byte(tc.text))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%q:\n got %v\nwant %s", tc.text, err, tc.want)
		}
	}
}

func FuzzParseText(f *testing.F) {
	text, err := Default().Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for seed := range uint64(20) {
		if text, err = formProfile(rand.New(rand.NewPCG(seed, 10))).Text(); err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseText("f", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("no place, or more than one line: %q", err)
			}
			return
		}
		roundTrip(t, p, p.Text, ParseText)
		if strings.ToValidUTF8(said(p), "") == said(p) {
			roundTripJSON(t, p)
		}
	})
}

// roundTripJSON writes and reads JSON, but for profiles with texts that JSON
// cannot hold.
func roundTripJSON(t *testing.T, p *Profile) {
	t.Helper()
	data, err := p.DockerJSON()
	if err != nil {
		if !strings.Contains(err.Error(), "holds what this form cannot say") {
			t.Fatal(err)
		}
		return
	}
	back, err := ParseProfile("back", data)
	if err != nil || said(p) != said(back) {
		t.Fatalf("%v\n%s", err, data)
	}
}
