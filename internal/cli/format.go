package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/docker/cli/templates"
	"github.com/docker/go-units"
)

// listFormat prints lists in the forms that Docker's --format knows: "table"
// or nothing, "table TEMPLATE", "json" (one object a line), or a Go template
// for each row.
type listFormat struct {
	table   string            // template of the default table, columns separated by \t
	headers map[string]string // field -> title
}

// formatHelp is the help of --format.
const formatHelp = `table, "table TEMPLATE", json, or a Go template such as "{{.ID}}"`

// print prints rows, which are structs whose fields and methods the templates
// name and whose JSON is the json form.
func (l listFormat) print(out io.Writer, format string, rows []any) error {
	w := bufio.NewWriter(out) // a table is written cell by cell
	if err := l.printTo(w, format, rows); err != nil {
		return err
	}
	return w.Flush()
}

func (l listFormat) printTo(w io.Writer, format string, rows []any) error {
	switch {
	case format == "json":
		return printJSONLines(w, rows)
	case format == "" || format == "table":
		return l.printTable(w, l.table, rows)
	}
	if rest, ok := strings.CutPrefix(format, "table "); ok {
		return l.printTable(w, rest, rows)
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := t.Execute(w, r); err != nil {
			return templateError(err)
		}
		fmt.Fprintln(w)
	}
	return nil
}

func (l listFormat) printTable(w io.Writer, format string, rows []any) error {
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	head, err := template.New("").Funcs(templates.HeaderFunctions).Option("missingkey=error").Parse(unescape(format))
	if err != nil {
		return templateError(err)
	}
	if err := head.Execute(tw, l.headers); err != nil {
		return templateError(err)
	}
	fmt.Fprintln(tw)
	for _, r := range rows {
		if err := t.Execute(tw, r); err != nil {
			return templateError(err)
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

func printJSONLines(w io.Writer, rows []any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// unescape turns the \t and \n that a shell hands on literally into what they
// stand for.
func unescape(format string) string {
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
}

func parseTemplate(format string) (*template.Template, error) {
	t, err := templates.Parse(unescape(format))
	if err != nil {
		return nil, templateError(err)
	}
	return t.Option("missingkey=error"), nil
}

// templateError shortens the template package's words to what concerns the
// user.
func templateError(err error) error {
	return fmt.Errorf("--format: %s", strings.TrimPrefix(err.Error(), "template: "))
}

// printIndented prints one value as indented JSON.
func printIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}

// shortID is an ID as tables show it.
func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// ago is the time since t in words.
func ago(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }

// ellipsis shortens s to n characters.
func ellipsis(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
