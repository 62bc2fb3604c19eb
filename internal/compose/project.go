package compose

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/brig-run/brig/internal/nearest"
)

// Labels of what belongs to a project. They are Docker's, so that its tools find
// what they look for.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelNumber  = "com.docker.compose.container-number"
	labelHash    = "com.docker.compose.config-hash"
	labelDir     = "com.docker.compose.project.working_dir"
	labelFiles   = "com.docker.compose.project.config_files"
	labelNetwork = "com.docker.compose.network"
	labelVolume  = "com.docker.compose.volume"
)

// Files says what is to be loaded; zero values mean what Docker's do.
type Files struct {
	Files    []string // default: compose.yaml and its like, here or above
	Name     string
	Dir      string
	Profiles []string
	EnvFiles []string
}

// load reads the compose files. Services of profiles that are not chosen are
// left out.
func load(ctx context.Context, f Files) (*types.Project, error) {
	options, err := cli.NewProjectOptions(f.Files,
		cli.WithWorkingDirectory(f.Dir), cli.WithOsEnv, cli.WithEnvFiles(f.EnvFiles...), cli.WithDotEnv,
		cli.WithConfigFileEnv, cli.WithDefaultConfigPath, cli.WithDefaultProfiles(f.Profiles...), cli.WithName(f.Name))
	if err != nil {
		return nil, err
	}
	p, err := options.LoadProject(ctx)
	return p, unknownKey(err)
}

// unknownKey says of a key that the schema does not have which one was meant. The
// loader calls such a key's value a "false schema".
func unknownKey(err error) error {
	if err == nil {
		return nil
	}
	text, ok := strings.CutSuffix(err.Error(), " false schema")
	key := text[strings.LastIndexByte(text, '.')+1:]
	if !ok || !strings.Contains(text, "services.") {
		return err
	}
	if near := nearest.Name(key, slices.Values(supported())); near != "" {
		return fmt.Errorf("%s: unknown key; did you mean %s?", text, near)
	}
	return fmt.Errorf("%s: unknown key", text)
}

// containerName is the name of a service's nth container, counted from 1.
func containerName(p *types.Project, s *types.ServiceConfig, n int) string {
	if s.ContainerName != "" {
		return s.ContainerName
	}
	return fmt.Sprintf("%s-%s-%d", p.Name, s.Name, n)
}

// scale is how many containers a service has.
func scale(s *types.ServiceConfig) int {
	if s.Scale != nil {
		return *s.Scale
	}
	if s.Deploy != nil && s.Deploy.Replicas != nil {
		return *s.Deploy.Replicas
	}
	return 1
}

// hash changes when the containers of a service must be made anew.
func hash(args []string) string {
	sum := sha256.Sum256([]byte(strings.Join(args, "\x00")))
	return hex.EncodeToString(sum[:])
}
