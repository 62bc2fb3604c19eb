package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/image"
)

// historyRow is one step, with Docker's field names.
type historyRow struct {
	Comment      string
	CreatedAt    string
	CreatedBy    string
	CreatedSince string
	ID           string
	Size         string
}

func historyFormat() listFormat {
	return listFormat{
		table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
		headers: map[string]string{
			"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
		},
	}
}

func newHistory(a *app) *cobra.Command {
	var noTrunc, quiet, human bool
	var format string
	cmd := &cobra.Command{
		Use:   "history [flags] IMAGE",
		Short: "Show how an image was made",
		Example: `  brig history debian
  brig history --no-trunc --format '{{.Size}}\t{{.CreatedBy}}' nginx`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			images, err := a.images()
			if err != nil {
				return err
			}
			list, err := images.History(args[0])
			if err != nil {
				return err
			}
			var rows []any
			for _, e := range list {
				rows = append(rows, makeHistoryRow(e, noTrunc, human))
			}
			if quiet {
				for _, r := range rows {
					fmt.Fprintln(a.out, r.(historyRow).ID)
				}
				return nil
			}
			return historyFormat().print(a.out, format, rows)
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "", formatHelp)
	f.BoolVarP(&human, "human", "H", true, "print sizes and times for people")
	f.BoolVar(&noTrunc, "no-trunc", false, "do not shorten")
	f.BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	return cmd
}

func makeHistoryRow(e image.HistoryEntry, full, human bool) historyRow {
	r := historyRow{
		CreatedAt: e.Created.Format(time.RFC3339),
		// An image's words must not steer the terminal.
		Comment: image.Printable(e.Comment, 1<<16), CreatedBy: image.Printable(e.CreatedBy, 1<<16),
		ID: "<missing>", Size: units.HumanSizeWithPrecision(float64(e.Size), 3),
	}
	if e.ID != "" {
		r.ID = e.ID
	}
	if !full {
		if e.ID != "" {
			r.ID = shortID(e.ID)
		}
		r.CreatedBy = ellipsis(r.CreatedBy, 45)
	}
	r.CreatedSince = since(e.Created)
	if !human {
		r.Size, r.CreatedSince = strconv.FormatInt(e.Size, 10), r.CreatedAt
	}
	return r
}

// since is ago for a time that may not be known.
func since(t time.Time) string {
	if t.Unix() <= 0 {
		return "N/A"
	}
	return ago(t)
}
