// Package report renders a policy as one HTML page for people: what the
// container needs, how sure that is, what it loses, and how to use the policy.
//
// The page is self-contained: no script, style, font or image comes from
// elsewhere, and its Content-Security-Policy forbids all that the page itself
// does not hold. It works without its script. What the policy says is data of
// unknown origin: names of programs and images are escaped for their place.
//
// The package knows policies, capabilities and system calls. It reads no files
// and runs nothing.
package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
)

// Input is what a page is made from.
type Input struct {
	Policy *policy.Policy
	// Capabilities are those that the policy grants, and Default those that the
	// container would have without it.
	Capabilities, Default capability.Set
	// Scanned: somebody looked for calls that the image's programs can reach.
	// Reachable has those, or at least the ones that no run made. Without a scan
	// the page says so.
	Scanned   bool
	Reachable []ReachableCall
	// Commands are ways to use the policy.
	Commands []Command
}

// ReachableCall is a system call that code of the image can make.
type ReachableCall struct {
	Name string `json:"name"`
	How  string `json:"how"` // where it was found: "/usr/sbin/nginx imports ptrace"
}

// Command is one way to use the policy: a title and the text to copy.
type Command struct{ Title, Text string }

// Write writes the page for in. The same input gives the same page. It is an
// error if in has no policy; errors of w are returned as they are.
func Write(w io.Writer, in Input) error {
	if in.Policy == nil {
		return fmt.Errorf("report: no policy")
	}
	t, err := page()
	if err != nil {
		return fmt.Errorf("report: parse the page's template: %w", err)
	}
	v, err := newView(in)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	v.CSP = fmt.Sprintf("default-src 'none'; style-src %s; script-src %s; base-uri 'none'; form-action 'none'",
		sourceHash(pageCSS), sourceHash(pageJS))
	// A page that fails halfway must not reach w.
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// sourceHash is how a Content-Security-Policy names an inline source
// (CSP Level 3, section 2.3.1, hash-source).
func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
