package policy

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/policy.schema.json")

const schemaFile = "../../docs/policy.schema.json"

// The schema of the policy file, for editors and other programs, is made of the
// types in policy.go and their comments.
func TestSchema(t *testing.T) {
	s := &schema{docs: comments(t), defs: map[string]any{}}
	root := s.object(reflect.TypeFor[Policy]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Brig policy"
	root["$defs"] = s.defs
	got, err := json.MarshalIndent(root, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not that of the types: run go test ./internal/policy -update", schemaFile)
	}
}

type schema struct {
	docs map[string]string // "Type" and "Type.field" -> comment
	defs map[string]any
}

// enums are fields that take only some words, as Parse checks them.
var enums = map[string][]string{
	"Run.purpose":       {PurposeLearn, PurposeProve},
	"Capability.status": {Verified, Asked, Unneeded, Noise, Added},
	"Syscall.status":    {Verified, Asked, Unneeded, Base, Added},
	"Tried.status":      {Verified, Unneeded},
}

func (s *schema) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		field := s.of(t.Field(i).Type)
		if doc := s.docs[t.Name()+"."+name]; doc != "" {
			field["description"] = doc
		}
		if words := enums[t.Name()+"."+name]; words != nil {
			field["enum"] = words
		}
		if name == "version" {
			field["const"] = Version
		}
		if !strings.Contains(options, "omitempty") && slices.Contains([]string{"version", "name", "id", "purpose", "status", "errno", "index", "values"}, name) {
			required = append(required, name)
		}
		properties[name] = field
	}
	return map[string]any{
		"type": "object", "description": s.docs[t.Name()], "properties": properties,
		"required": required, "additionalProperties": false,
	}
}

func (s *schema) of(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		return s.of(t.Elem())
	case t.Kind() == reflect.Struct:
		if s.defs[t.Name()] == nil {
			s.defs[t.Name()] = s.object(t)
		}
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case t.Kind() == reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case t.Kind() == reflect.String:
		return map[string]any{"type": "string"}
	case t.Kind() == reflect.Bool:
		return map[string]any{"type": "boolean"}
	case t.Kind() == reflect.Float64:
		return map[string]any{"type": "number"}
	case t.Kind() == reflect.Int:
		return map[string]any{"type": "integer"}
	}
	return map[string]any{"type": "integer", "minimum": 0}
}

// comments are those of the types in policy.go and of their fields.
func comments(t *testing.T) map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "policy.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	text := func(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }
	ast.Inspect(file, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.TYPE {
			return true
		}
		spec := decl.Specs[0].(*ast.TypeSpec)
		docs[spec.Name.Name] = text(decl.Doc)
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
				docs[spec.Name.Name+"."+name] = strings.TrimSpace(text(f.Doc) + " " + text(f.Comment))
			}
		}
		return true
	})
	return docs
}
