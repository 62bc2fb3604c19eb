package image

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// What Brig does not know of a configuration stays; what was taken away is gone.
func TestDerived(t *testing.T) {
	layer := digest.FromString("layer")
	base := `{"architecture":"amd64","os":"linux","os.version":"1","author":"old","comment":"old","container":"c",
		"config":{"Env":["A=1"],"User":"u","Cmd":["x"],"Healthcheck":{"Test":["NONE"]},"OnBuild":["RUN x"]},
		"rootfs":{"type":"layers","diff_ids":["` + string(layer) + `"]},"history":[{"created_by":"first"}]}`
	b, err := derived([]byte(base), digest.FromString("more"), &CommitOptions{Author: "me", CreatedBy: "by", Config: v1.ImageConfig{Env: []string{"A=2"}}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		OSVersion string          `json:"os.version"`
		Author    string          `json:"author"`
		Comment   *string         `json:"comment"`
		Container *string         `json:"container"`
		Config    json.RawMessage `json:"config"`
		RootFS    v1.RootFS       `json:"rootfs"`
		History   []v1.History    `json:"history"`
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if want := `{"Env":["A=2"],"Healthcheck":{"Test":["NONE"]},"OnBuild":["RUN x"]}`; string(got.Config) != want {
		t.Errorf("config %s, want %s", got.Config, want)
	}
	if got.OSVersion != "1" || got.Author != "me" || got.Comment != nil || got.Container != nil || len(got.RootFS.DiffIDs) != 2 || len(got.History) != 2 {
		t.Errorf("%s", b)
	}
}
