package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// RegistryOptions say how to talk to a registry.
type RegistryOptions struct {
	// Insecure allows plain HTTP and certificates that nobody vouches for. It
	// is always allowed for this machine's own addresses, as under Docker, and
	// for the hosts that BRIG_INSECURE_REGISTRIES lists, separated by commas.
	Insecure bool
}

const (
	userAgent     = "brig"
	headerTimeout = 60 * time.Second // until a registry begins its answer
	stallTimeout  = 60 * time.Second // without a byte of a blob
	maxTries      = 5                // in a row, without progress
	firstPause    = 200 * time.Millisecond
	longestPause  = 10 * time.Second
)

// registry is a repository of a registry, with our credentials for it.
type registry struct {
	ref  Reference
	repo name.Repository
	base http.RoundTripper // without credentials
	auth authn.Authenticator

	client *http.Client // with them
}

// insecure says whether plain HTTP will do for a registry.
func (o RegistryOptions) insecure(host string) bool {
	if o.Insecure || isLoopback(host) {
		return true
	}
	for h := range strings.SplitSeq(os.Getenv("BRIG_INSECURE_REGISTRIES"), ",") {
		if h = strings.TrimSpace(h); h != "" && h == host {
			return true
		}
	}
	return false
}

func isLoopback(host string) bool {
	h := host
	if name, _, err := net.SplitHostPort(host); err == nil {
		h = name
	}
	h = strings.Trim(h, "[]")
	ip, err := netip.ParseAddr(h)
	return h == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// connect prepares to talk to a reference's registry.
func connect(ref Reference, o RegistryOptions) (*registry, error) {
	insecure := o.insecure(ref.Domain)
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(ref.Repository(), opts...)
	if err != nil {
		return nil, err
	}
	base, err := baseTransport(ref.Domain, insecure)
	if err != nil {
		return nil, err
	}
	auth, err := credentials(ref.Domain, ref.Path)
	if err != nil {
		return nil, err
	}
	return &registry{ref: ref, repo: repo, base: base, auth: auth}, nil
}

// baseTransport speaks HTTP with a registry, and tries again what may pass.
func baseTransport(host string, insecure bool) (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = headerTimeout
	t.MaxIdleConnsPerHost = 8
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: insecure, MinVersion: tls.VersionTLS12} //nolint:gosec // asked for
	if err := hostCertificates(t.TLSClientConfig, host); err != nil {
		return nil, err
	}
	return &retrying{&guard{inner: t, insecure: insecure}}, nil
}

// hostCertificates adds what /etc/docker/certs.d/HOST holds for a registry:
// *.crt are authorities to trust, NAME.cert and NAME.key our own certificate.
func hostCertificates(c *tls.Config, host string) error {
	for _, dir := range []string{"/etc/docker/certs.d/", "/etc/containers/certs.d/"} {
		cas, _ := filepath.Glob(dir + host + "/*.crt")
		for _, ca := range cas {
			b, err := os.ReadFile(ca)
			if err != nil {
				return fmt.Errorf("certificates of registry %s: %w", host, err)
			}
			if c.RootCAs == nil {
				if c.RootCAs, err = x509.SystemCertPool(); err != nil {
					return fmt.Errorf("certificates of registry %s: %w", host, err)
				}
			}
			if !c.RootCAs.AppendCertsFromPEM(b) {
				return fmt.Errorf("certificates of registry %s: %s holds no PEM certificate", host, ca)
			}
		}
		own, _ := filepath.Glob(dir + host + "/*.cert")
		for _, cert := range own {
			pair, err := tls.LoadX509KeyPair(cert, strings.TrimSuffix(cert, ".cert")+".key")
			if err != nil {
				return fmt.Errorf("certificates of registry %s: %w", host, err)
			}
			c.Certificates = append(c.Certificates, pair)
		}
	}
	return nil
}

// guard keeps a secure registry from becoming an insecure one: by plain HTTP,
// which go-containerregistry would try for private addresses, or by a redirect.
type guard struct {
	inner    http.RoundTripper
	insecure bool
}

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.insecure {
		return nil, &plainHTTPError{r.URL.Host}
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", userAgent)
	return g.inner.RoundTrip(r)
}

// plainHTTPError says that a registry has to use TLS.
type plainHTTPError struct{ host string }

func (e *plainHTTPError) Error() string {
	return fmt.Sprintf("plain HTTP to %s is refused; use --tls-verify=false or BRIG_INSECURE_REGISTRIES=%s to allow it", e.host, e.host)
}

// retrying repeats requests that change nothing, when they fail in a way that
// may pass.
type retrying struct{ inner http.RoundTripper }

func (t *retrying) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return t.inner.RoundTrip(r)
	}
	for try := 1; ; try++ {
		resp, err := t.inner.RoundTrip(r)
		wait := time.Duration(0)
		switch {
		case err != nil && !passing(err), err == nil && !passingStatus(resp.StatusCode), try == maxTries:
			return resp, err
		case err == nil:
			wait = retryAfter(resp)
			io.CopyN(io.Discard, resp.Body, 64<<10)
			resp.Body.Close()
		}
		if err := pause(r.Context(), try, wait); err != nil {
			return nil, err
		}
	}
}

// pause waits before the next try, each time longer, or as long as the registry
// asks for.
func pause(ctx context.Context, try int, asked time.Duration) error {
	d := min(firstPause<<(try-1), longestPause)
	if asked > 0 {
		d = min(asked, time.Minute)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func retryAfter(r *http.Response) time.Duration {
	n, err := strconv.Atoi(r.Header.Get("Retry-After"))
	if err != nil || n < 0 || n > 3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}

func passingStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// passing says whether an error of the network may be gone the next time.
func passing(err error) bool {
	var refused *plainHTTPError
	var dns *net.DNSError
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !isTimeout(err), errors.As(err, &refused),
		errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &invalid), errors.As(err, &verify), errors.As(err, &record),
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return false
	case errors.As(err, &dns):
		return dns.IsTemporary || dns.IsTimeout
	case errors.As(err, &op) && op.Op == "dial":
		return op.Timeout() // nobody listens: better say so at once
	}
	return true
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// login makes the client with the credentials; actions is transport.PullScope
// or PushScope.
func (r *registry) login(ctx context.Context, actions string) error {
	tr, err := transport.NewWithContext(ctx, r.repo.Registry, r.auth, r.base, []string{r.repo.Scope(actions)})
	if err != nil {
		return r.explain(err)
	}
	r.client = &http.Client{Transport: tr, CheckRedirect: checkRedirect}
	return nil
}

// checkRedirect keeps a registry on the internet from sending us to addresses
// of this machine or its network's metadata service.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("too many redirects")
	}
	if to := req.URL.Hostname(); to != via[0].URL.Hostname() && isInternal(to) && !isInternal(via[0].URL.Hostname()) {
		return fmt.Errorf("redirect from %s to the internal address %s is refused", via[0].URL.Host, to)
	}
	return nil
}

func isInternal(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost"
	}
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsPrivate()
}

// get asks for something below the repository. The answer has status 200, or
// 206 or 416 if a range was asked for.
func (r *registry) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	u := url.URL{Scheme: r.repo.Scheme(), Host: r.repo.RegistryStr(), Path: "/v2/" + r.repo.RepositoryStr() + "/" + path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	// Transparent compression would change the digest.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, r.explain(err)
	}
	ok := []int{http.StatusOK}
	if header.Get("Range") != "" {
		ok = append(ok, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	}
	if err := transport.CheckError(resp, ok...); err != nil {
		resp.Body.Close()
		return nil, r.explain(err)
	}
	return resp, nil
}

// registryError is what a registry said, in words that help.
type registryError struct {
	text  string
	cause error
}

func (e *registryError) Error() string { return e.text }
func (e *registryError) Unwrap() error { return e.cause }

// explain says what to do about the usual refusals.
func (r *registry) explain(err error) error {
	var te *transport.Error
	if !errors.As(err, &te) {
		var u *url.Error
		if errors.As(err, &u) && !isTimeout(err) {
			return fmt.Errorf("registry %s: %w", r.ref.Domain, u.Err)
		}
		return fmt.Errorf("registry %s: %w", r.ref.Domain, err)
	}
	loginTo := ""
	if r.ref.Domain != defaultDomain {
		loginTo = " " + r.ref.Domain
	}
	switch te.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &registryError{fmt.Sprintf("access denied: the repository does not exist or needs other credentials; log in with brig login%s", loginTo), err}
	case http.StatusNotFound:
		return &registryError{fmt.Sprintf("not found: registry %s has no such image or tag", r.ref.Domain), err}
	case http.StatusTooManyRequests:
		return &registryError{fmt.Sprintf("registry %s allows no more requests for now; wait, or log in with brig login%s", r.ref.Domain, loginTo), err}
	}
	return &registryError{fmt.Sprintf("registry %s: %s", r.ref.Domain, Printable(te.Error(), 500)), err}
}

// Printable makes one line of at most n characters of a text that comes from
// elsewhere: what would move the cursor or the like becomes a space.
func Printable(s string, n int) string {
	r := []rune(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, s))
	if len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return string(r)
}
