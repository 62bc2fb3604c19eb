package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	helper "github.com/docker/docker-credential-helpers/client"
	helpercreds "github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// hubKey is the name under which credentials for Docker Hub are kept, for
// reasons of history.
const hubKey = "https://index.docker.io/v1/"

// Credentials are a user's for a registry. With an empty user name the password
// is an identity token.
type Credentials struct {
	Username, Password string
}

// authFile is Docker's config.json or podman's auth.json. Of its fields we know
// a few and keep the others.
type authFile struct {
	path   string
	fields map[string]json.RawMessage

	auths   map[string]json.RawMessage
	helpers map[string]string // registry -> helper
	store   string            // helper for all others
}

// authEntry is one of an authFile's auths.
type authEntry struct {
	Auth          string `json:"auth,omitempty"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// dockerConfigPath is Docker's own file, to which login writes.
func dockerConfigPath() (string, error) {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find Docker's configuration: %w; set DOCKER_CONFIG to its directory", err)
	}
	return filepath.Join(home, ".docker", "config.json"), nil
}

// podmanAuthPaths are the files that podman keeps credentials in.
func podmanAuthPaths() []string {
	if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
		return []string{f}
	}
	runtimeDir := os.Getenv("XDG_RUNTIME_DIR")
	if runtimeDir == "" || os.Geteuid() == 0 {
		runtimeDir = fmt.Sprintf("/run/containers/%d", os.Geteuid())
		return append([]string{runtimeDir + "/auth.json"}, podmanConfigPath()...)
	}
	return append([]string{runtimeDir + "/containers/auth.json"}, podmanConfigPath()...)
}

func podmanConfigPath() []string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil
	}
	return []string{dir + "/containers/auth.json"}
}

// readAuthFile reads one of these files; one that is missing is empty.
func readAuthFile(path string) (*authFile, error) {
	f := &authFile{path: path, fields: map[string]json.RawMessage{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return f, nil
	}
	if err := f.parse(b); err != nil {
		return nil, fmt.Errorf("read credentials: %s: %w", path, err)
	}
	return f, nil
}

func (f *authFile) parse(b []byte) error {
	if err := json.Unmarshal(b, &f.fields); err != nil {
		return err
	}
	if f.fields == nil {
		f.fields = map[string]json.RawMessage{}
	}
	for field, to := range map[string]any{"auths": &f.auths, "credHelpers": &f.helpers, "credsStore": &f.store} {
		if raw, ok := f.fields[field]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return fmt.Errorf("%s: %w", field, err)
			}
		}
	}
	return nil
}

// keysFor lists the names under which credentials for a repository may be kept,
// the most specific first. Only podman knows those of parts of a registry.
func keysFor(domain, path string) []string {
	var keys []string
	for p := domain + "/" + path; path != "" && p != domain; p = p[:strings.LastIndexByte(p, '/')] {
		keys = append(keys, p)
	}
	keys = append(keys, domain)
	if domain == defaultDomain {
		return append(keys, hubKey, "index.docker.io", "registry-1.docker.io")
	}
	return append(keys, "https://"+domain, "http://"+domain)
}

// storeKey is the name under which login keeps credentials.
func storeKey(domain string) string {
	if domain == defaultDomain {
		return hubKey
	}
	return domain
}

// helperFor is the credential helper that a file names for a registry, or "".
func (f *authFile) helperFor(domain string) string {
	if h, ok := f.helpers[storeKey(domain)]; ok {
		return h
	}
	if h, ok := f.helpers[domain]; ok {
		return h
	}
	return f.store
}

// find looks for credentials; nil if there are none.
func (f *authFile) find(domain, path string) (*authn.AuthConfig, error) {
	if h := f.helperFor(domain); h != "" {
		c, err := askHelper(h, storeKey(domain))
		if c != nil || err != nil {
			return c, err
		}
	}
	for _, key := range keysFor(domain, path) {
		raw, ok := f.auths[key]
		if !ok {
			continue
		}
		c, err := parseAuth(raw)
		if err != nil {
			return nil, fmt.Errorf("read credentials: %s: auths[%q]: %w", f.path, key, err)
		}
		if c != nil {
			return c, nil
		}
	}
	return nil, nil
}

func parseAuth(raw json.RawMessage) (*authn.AuthConfig, error) {
	var e authEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	c := &authn.AuthConfig{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth != "" {
		b, err := base64.StdEncoding.DecodeString(e.Auth)
		if err != nil {
			return nil, fmt.Errorf("auth: not base64: %w", err)
		}
		var ok bool
		if c.Username, c.Password, ok = strings.Cut(string(b), ":"); !ok {
			return nil, errors.New("auth: want the base64 form of USER:PASSWORD")
		}
		c.Password = strings.Trim(c.Password, "\x00")
	}
	if *c == (authn.AuthConfig{}) {
		return nil, nil // an entry whose secret a helper holds
	}
	return c, nil
}

// helperProgram is the program of a credential helper. A helper's name comes
// from a file of the user's and must not lead elsewhere.
func helperProgram(name string) (helper.ProgramFunc, error) {
	program := "docker-credential-" + name
	if strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("credential helper %q: a name without slashes is wanted", name)
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("credential helper %s: %w; install it, or take it out of Docker's config.json", name, err)
	}
	return helper.NewShellProgramFunc(program), nil
}

func askHelper(name, key string) (*authn.AuthConfig, error) {
	p, err := helperProgram(name)
	if err != nil {
		return nil, err
	}
	c, err := helper.Get(p, key)
	if helpercreds.IsErrCredentialsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("credential helper %s: %w", name, err)
	}
	if c.Username == "<token>" {
		return &authn.AuthConfig{IdentityToken: c.Secret}, nil
	}
	return &authn.AuthConfig{Username: c.Username, Password: c.Secret}, nil
}

// credentials finds the user's credentials for a repository: in Docker's
// configuration, then in podman's.
func credentials(domain, path string) (authn.Authenticator, error) {
	var files []string
	if docker, err := dockerConfigPath(); err == nil {
		files = append(files, docker)
	}
	for _, name := range append(files, podmanAuthPaths()...) {
		f, err := readAuthFile(name)
		if err != nil {
			return nil, err
		}
		c, err := f.find(domain, path)
		if err != nil {
			return nil, err
		}
		if c != nil {
			return authn.FromConfig(*c), nil
		}
	}
	return authn.Anonymous, nil
}

// ParseRegistry turns what a user writes for a registry (a host, or its URL)
// into its name; nothing stands for Docker Hub.
func ParseRegistry(s string) (string, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://"), "/")
	switch host {
	case "", defaultDomain, "index.docker.io", "index.docker.io/v1", "registry-1.docker.io":
		return defaultDomain, nil
	}
	if !validDomain(host) {
		return "", fmt.Errorf("invalid registry %q: use HOST or HOST:PORT", s)
	}
	return host, nil
}

// SavedUsername is the user name that is known for a registry, or "".
func SavedUsername(domain string) string {
	path, err := dockerConfigPath()
	if err != nil {
		return ""
	}
	f, err := readAuthFile(path)
	if err != nil {
		return ""
	}
	if c, err := f.find(domain, ""); err == nil && c != nil {
		return c.Username
	}
	return ""
}

// Login checks credentials with the registry, and keeps them where Docker does:
// with the credential helper that its config.json names, or in config.json. It
// says where.
func Login(ctx context.Context, domain string, c Credentials, o RegistryOptions) (where string, err error) {
	if err := verifyLogin(ctx, domain, c, o); err != nil {
		return "", fmt.Errorf("log in to %s: %w", domain, err)
	}
	f, err := openDockerConfig()
	if err != nil {
		return "", err
	}
	where, err = f.save(domain, c)
	if err != nil {
		return "", fmt.Errorf("store the credentials for %s: %w", domain, err)
	}
	return where, nil
}

func openDockerConfig() (*authFile, error) {
	path, err := dockerConfigPath()
	if err != nil {
		return nil, err
	}
	return readAuthFile(path)
}

// verifyLogin asks the registry for its front page with the credentials.
func verifyLogin(ctx context.Context, domain string, c Credentials, o RegistryOptions) error {
	insecure := o.insecure(domain)
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(domain, opts...)
	if err != nil {
		return err
	}
	base, err := baseTransport(domain, insecure)
	if err != nil {
		return err
	}
	r := &registry{ref: Reference{Domain: domain, Path: "login"}}
	auth := authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password})
	tr, err := transport.NewWithContext(ctx, reg, auth, base, nil)
	if err != nil {
		return r.loginError(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, reg.Scheme()+"://"+reg.RegistryStr()+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: tr, CheckRedirect: checkRedirect}).Do(req)
	if err != nil {
		return r.loginError(err)
	}
	defer resp.Body.Close()
	return r.loginError(transport.CheckError(resp, http.StatusOK))
}

func (r *registry) loginError(err error) error {
	var te *transport.Error
	if errors.As(err, &te) && (te.StatusCode == http.StatusUnauthorized || te.StatusCode == http.StatusForbidden) {
		return &registryError{"unauthorized: the registry does not accept the user name and password", err}
	}
	if err == nil {
		return nil
	}
	return r.explain(err)
}

// save keeps credentials.
func (f *authFile) save(domain string, c Credentials) (where string, err error) {
	key := storeKey(domain)
	if f.auths == nil {
		f.auths = map[string]json.RawMessage{}
	}
	if h := f.helperFor(domain); h != "" {
		p, err := helperProgram(h)
		if err != nil {
			return "", err
		}
		if err := helper.Store(p, &helpercreds.Credentials{ServerURL: key, Username: c.Username, Secret: c.Password}); err != nil {
			return "", fmt.Errorf("credential helper %s: %w", h, err)
		}
		f.auths[key] = json.RawMessage("{}")
		return "credential helper " + h, f.write()
	}
	b, err := json.Marshal(authEntry{Auth: base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))})
	if err != nil {
		return "", err
	}
	f.auths[key] = b
	return f.path, f.write()
}

// Logout forgets the credentials for a registry. It says whether there were any.
func Logout(domain string) (bool, error) {
	f, err := openDockerConfig()
	if err != nil {
		return false, err
	}
	found := false
	if h := f.helperFor(domain); h != "" {
		p, err := helperProgram(h)
		if err != nil {
			return false, err
		}
		err = helper.Erase(p, storeKey(domain))
		if err != nil && !helpercreds.IsErrCredentialsNotFound(err) {
			return false, fmt.Errorf("credential helper %s: %w", h, err)
		}
		found = err == nil
	}
	changed := false
	for _, key := range keysFor(domain, "") {
		if _, ok := f.auths[key]; ok {
			delete(f.auths, key)
			changed = true
		}
	}
	if changed {
		err = f.write()
	}
	return found || changed, err
}

// write replaces the file as a whole, for its owner's eyes only. A link is
// followed: some keep the file elsewhere.
func (f *authFile) write() error {
	raw, err := json.Marshal(f.auths)
	if err != nil {
		return err
	}
	f.fields["auths"] = raw
	b, err := json.MarshalIndent(f.fields, "", "\t")
	if err != nil {
		return err
	}
	path := f.path
	if p, err := filepath.EvalSymlinks(path); err == nil {
		path = p
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	t, err := os.CreateTemp(filepath.Dir(path), ".config.json-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	defer t.Close()
	if fi, err := os.Stat(path); err == nil {
		if err := keepOwner(t, fi); err != nil {
			return err
		}
	}
	if _, err := t.Write(b); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	return os.Rename(t.Name(), path)
}

// keepOwner gives the new file the owner of the old one: root may write into a
// user's home.
func keepOwner(t *os.File, old fs.FileInfo) error {
	if st, ok := old.Sys().(*syscall.Stat_t); ok {
		return t.Chown(int(st.Uid), int(st.Gid))
	}
	return nil
}
