package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// legacyLayer is a file ID/json of an archive by Docker before 1.10: each layer
// is an image of its own, that names its parent.
type legacyLayer struct {
	Parent       string         `json:"parent"`
	Created      *time.Time     `json:"created"`
	Author       string         `json:"author"`
	Comment      string         `json:"comment"`
	Architecture string         `json:"architecture"`
	OS           string         `json:"os"`
	Config       v1.ImageConfig `json:"config"`
	Container    struct {
		Cmd []string
	} `json:"container_config"`
}

// legacy loads an archive whose table of contents is the file repositories:
// name -> tag -> ID of the topmost layer.
func (ld *loader) legacy(ctx context.Context) error {
	b, err := ld.a.json("repositories")
	if err != nil {
		return err
	}
	var repos map[string]map[string]string
	if err := json.Unmarshal(b, &repos); err != nil {
		return fmt.Errorf("repositories: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(repos)) {
		for _, tag := range slices.Sorted(maps.Keys(repos[name])) {
			full := name + ":" + tag
			names, err := namings([]string{full})
			if err == nil {
				err = ld.legacyImage(ctx, repos[name][tag], names)
			}
			if err != nil {
				return fmt.Errorf("repositories: %s: %w", full, err)
			}
		}
	}
	if len(ld.loaded) == 0 {
		return errors.New("repositories: it names no image")
	}
	return nil
}

// legacyImage puts a configuration of today together from the chain of layers.
func (ld *loader) legacyImage(ctx context.Context, id string, names []naming) error {
	var chain []legacyLayer // topmost first
	var files []string
	for id != "" {
		if len(chain) == maxLayers {
			return fmt.Errorf("more than %d layers", maxLayers)
		}
		if len(id) != 64 || !isHex(id) {
			return fmt.Errorf("layer ID %q: want 64 hexadecimal digits", id)
		}
		b, err := ld.a.json(id + "/json")
		if err != nil {
			return err
		}
		var layer legacyLayer
		if err := json.Unmarshal(b, &layer); err != nil {
			return fmt.Errorf("%s/json: %w", id, err)
		}
		chain, files = append(chain, layer), append(files, id+"/layer.tar")
		id = layer.Parent
	}
	if len(chain) == 0 {
		return errors.New("layer ID is empty")
	}
	slices.Reverse(files)
	top := chain[0]
	image := v1.Image{
		Created: top.Created, Author: top.Author, Config: top.Config,
		Platform: v1.Platform{OS: "linux", Architecture: top.Architecture},
		RootFS:   v1.RootFS{Type: "layers"},
	}
	if top.OS != "" {
		image.OS = top.OS
	}
	if image.Architecture == "" {
		image.Architecture = hostPlatform().Architecture
	}
	for i, layer := range slices.Backward(chain) {
		m, err := ld.a.get(files[len(chain)-1-i])
		if err != nil {
			return err
		}
		diff, err := m.diffID(ld.Store)
		if err != nil {
			return err
		}
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, digest.Digest(diff))
		h := v1.History{Created: layer.Created, Author: layer.Author, Comment: layer.Comment}
		if cmd := layer.Container.Cmd; len(cmd) > 0 {
			h.CreatedBy = joinWords(cmd)
		}
		image.History = append(image.History, h)
	}
	configJSON, err := json.Marshal(image)
	if err != nil {
		return err
	}
	return ld.image(ctx, configJSON, files, names)
}

// joinWords is how Docker writes a command into an image's history.
func joinWords(cmd []string) string {
	return strings.Join(cmd, " ")
}
