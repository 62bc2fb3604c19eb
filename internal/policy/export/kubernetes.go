package export

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// kubernetes writes the securityContext of a container and its profile, in the
// form that both containerd, which knows OCI's only, and CRI-O read.
func (x *exporter) kubernetes() error {
	p, err := x.forTarget()
	if err != nil {
		return err
	}
	profile, err := p.DockerJSON()
	if err != nil {
		return err
	}
	x.note("copy %s.json to the directory seccomp/profiles of the kubelet on each node, usually /var/lib/kubelet/seccomp/profiles", x.name)
	context := x.securityContext("profiles/" + x.name + ".json")
	x.file(".yaml", []byte(x.head("The container "+x.name+" in a pod's list of containers")+context))
	x.file(".json", profile)
	return nil
}

// securityContext returns that field of a container.
func (x *exporter) securityContext(localhostProfile string) string {
	x.noteStandard()
	var b strings.Builder
	line := func(indent int, text string) { b.WriteString(strings.Repeat("  ", indent) + text + "\n") }
	line(0, "securityContext:")
	x.runAs(line)
	if x.in.NoNewPrivileges {
		line(1, "allowPrivilegeEscalation: false")
	} else {
		line(1, "# allowPrivilegeEscalation is left as it is: programs of the container may need")
		line(1, "# to gain privileges by setuid or file capabilities, which no recording tells.")
		line(1, "# Set it to false if none does.")
	}
	line(1, "capabilities:")
	line(2, `drop: ["ALL"]`)
	line(2, "add: "+yamlList(x.caps))
	line(1, "seccompProfile:")
	line(2, "type: Localhost")
	line(2, "localhostProfile: "+yamlString(localhostProfile))
	return b.String()
}

// runAs writes the user, for which Kubernetes has numbers only.
func (x *exporter) runAs(line func(int, string)) {
	u, known := x.user()
	switch {
	case !known:
		return
	case u.numeric:
		line(1, "runAsUser: "+u.uid)
		if u.gid != "" {
			line(1, "runAsGroup: "+u.gid)
		}
	case u.text != "root":
		x.note("Kubernetes has users as numbers only: set runAsUser to that of %s in the image, unless it is the image's own user", u.text)
	}
}

// noteStandard says which of the Pod Security Standards admit the pod.
func (x *exporter) noteStandard() {
	baseline := capability.Default().Drop(capability.NET_RAW)
	if over := x.in.Capabilities.Minus(baseline); !over.Empty() {
		x.note("only namespaces with the Pod Security Standard \"privileged\" admit the pod, because of %v", over)
	} else if over := x.in.Capabilities.Minus(capability.Of(capability.NET_BIND_SERVICE)); !over.Empty() {
		x.note("the Pod Security Standard \"baseline\" admits the pod, and \"restricted\" does not, because of %v", over)
	}
}

// spo writes a SeccompProfile of the Security Profiles Operator (API group
// security-profiles-operator.x-k8s.io, version v1beta1) and the
// securityContext that uses it.
func (x *exporter) spo() error {
	p, err := x.forTarget()
	if err != nil {
		return err
	}
	spec, err := x.spoSpec(p)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("apiVersion: security-profiles-operator.x-k8s.io/v1beta1\nkind: SeccompProfile\nmetadata:\n")
	b.WriteString("  name: " + yamlString(x.name) + "\n")
	b.WriteString(spec)
	object := x.head("The seccomp profile of "+x.name+" for the Security Profiles Operator") + b.String()
	x.out.Files = []File{{Name: x.name + ".yaml", Data: []byte(object)}}

	x.note("the operator's versions that have profiles in namespaces put the namespace into the path: operator/NAMESPACE/%s.json", x.name)
	context := x.securityContext("operator/" + x.name + ".json")
	x.file("-container.yaml", []byte(x.head("The container "+x.name+" in a pod's list of containers")+context))
	return nil
}

func (x *exporter) spoSpec(p *seccomp.Profile) (string, error) {
	if err := x.spoCan(p); err != nil {
		return "", err
	}
	var b strings.Builder
	line := func(indent int, text string, args ...any) {
		fmt.Fprintf(&b, strings.Repeat("  ", indent)+text+"\n", args...)
	}
	oci := p.OCI(x.target)
	line(0, "spec:")
	line(1, "defaultAction: %s", oci.DefaultAction)
	line(1, "architectures:")
	for _, a := range oci.Architectures {
		line(1, "- %s", a)
	}
	if len(oci.Flags) > 0 {
		line(1, "flags:")
	}
	for _, f := range oci.Flags {
		line(1, "- %s", f)
	}
	line(1, "syscalls:")
	for i, r := range oci.Syscalls {
		if c := p.Syscalls[i].Comment; c != "" {
			line(1, "# %s", strings.ReplaceAll(printable(c), "%", "%%"))
		}
		line(1, "- action: %s", r.Action)
		if r.ErrnoRet != nil {
			line(2, "errnoRet: %d", *r.ErrnoRet)
		}
		line(2, "names:")
		for _, name := range r.Names {
			line(2, "- %s", name)
		}
		if len(r.Args) > 0 {
			line(2, "args:")
		}
		for _, a := range r.Args {
			line(2, "- index: %d", a.Index)
			line(3, "op: %s", a.Op)
			line(3, "value: %d", a.Value)
			line(3, "valueTwo: %d", a.ValueTwo)
		}
	}
	return b.String(), nil
}

// spoCan fails for what the operator's objects have no words for.
func (x *exporter) spoCan(p *seccomp.Profile) error {
	const max = 1<<63 - 1 // its numbers have the format int64
	switch d := p.DefaultAction; {
	case d.IsErrno() && d != seccomp.Errno(uint16(unix.EPERM)):
		return fmt.Errorf("calls that are not allowed fail with %v, and the operator's profiles know EPERM only", d)
	case p.ListenerPath != "":
		return fmt.Errorf("the profile needs a listener at %s", p.ListenerPath)
	}
	for _, a := range p.OCI(x.target).Architectures {
		switch arch, _ := syscalls.ParseArch(string(a)); arch {
		case syscalls.LOONGARCH64, syscalls.M68K, syscalls.SH, syscalls.SHEB:
			return fmt.Errorf("the operator does not know the architecture %s", a)
		}
	}
	for i := range p.Syscalls {
		r := &p.Syscalls[i]
		for _, c := range r.Args {
			if c.Value > max || c.ValueTwo > max {
				return fmt.Errorf("%s: the operator's numbers end at %s", strings.Join(r.Names, ", "), strconv.FormatUint(max, 10))
			}
		}
		if r.Action.IsErrno() && r.Action != p.DefaultAction {
			x.note("early versions of the operator take errnoRet as a string only, and runtimes then refuse the profile")
		}
	}
	return nil
}
