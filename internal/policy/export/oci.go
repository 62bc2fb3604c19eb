package export

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// ociFragment is what a policy says of a config.json, in the form of OCI's
// runtime specification.
type ociFragment struct {
	Process ociProcess `json:"process"`
	Linux   struct {
		Seccomp json.RawMessage `json:"seccomp"`
	} `json:"linux"`
}

type ociProcess struct {
	User            *ociUser        `json:"user,omitempty"`
	Capabilities    ociCapabilities `json:"capabilities"`
	NoNewPrivileges *bool           `json:"noNewPrivileges,omitempty"`
}

type ociUser struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// ociCapabilities lists all five sets, so that what a config.json has there
// already is replaced. Inheritable capabilities would come back for programs with
// file capabilities (CVE-2022-24769); ambient ones would be kept by a user other
// than root.
type ociCapabilities struct {
	Bounding    []string `json:"bounding"`
	Effective   []string `json:"effective"`
	Permitted   []string `json:"permitted"`
	Inheritable []string `json:"inheritable"`
	Ambient     []string `json:"ambient"`
}

// oci writes a fragment of config.json.
func (x *exporter) oci() error {
	p, err := x.forTarget()
	if err != nil {
		return err
	}
	profile, err := p.OCIJSON(x.target)
	if err != nil {
		return err
	}
	names, none := x.in.Capabilities.Names(), []string{}
	var f ociFragment
	f.Linux.Seccomp = profile
	f.Process.Capabilities = ociCapabilities{Bounding: names, Effective: names, Permitted: names, Inheritable: none, Ambient: none}
	if x.in.NoNewPrivileges {
		f.Process.NoNewPrivileges = &x.in.NoNewPrivileges
	}
	f.Process.User = x.ociUser()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(f); err != nil {
		return err
	}
	x.file(".json", b.Bytes())
	return nil
}

// ociUser returns the user as numbers, if they are known.
func (x *exporter) ociUser() *ociUser {
	u, known := x.user()
	if !known {
		return nil
	}
	if u.numeric && u.gid != "" {
		uid, _ := strconv.ParseUint(u.uid, 10, 31)
		gid, _ := strconv.ParseUint(u.gid, 10, 31)
		return &ociUser{uint32(uid), uint32(gid)}
	}
	if u.text != "root" {
		x.note("config.json has users and groups as numbers only: set process.user to those of %s in the image", u.text)
	}
	return nil
}
