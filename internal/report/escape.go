package report

import (
	_ "embed"
	"fmt"
	"sync"
	"text/template"
	"text/template/parse"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// page is parsed when the first page is written. It is a text/template that
// escapes all it shows, and not an html/template: that package does work at the
// start of each program that contains it, and page.html has data in two places
// only, in text and in attributes between double quotes, where the same escaping
// is right.
var page = sync.OnceValues(func() (*template.Template, error) {
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return nil, err
	}
	for _, part := range t.Templates() {
		escapeList(part.Root)
	}
	for name, text := range map[string]string{"css": pageCSS, "js": pageJS} {
		if _, err := t.New(name).Parse(text); err != nil {
			return nil, err
		}
	}
	return t, nil
})

// escapeList makes every action under list end in the function html.
func escapeList(list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			escapePipe(n.Pipe)
		case *parse.IfNode:
			escapeList(n.List)
			escapeList(n.ElseList)
		case *parse.RangeNode:
			escapeList(n.List)
			escapeList(n.ElseList)
		case *parse.WithNode:
			escapeList(n.List)
			escapeList(n.ElseList)
		case *parse.TextNode, *parse.TemplateNode, *parse.CommentNode:
		default:
			panic(fmt.Sprintf("report: page.html has a %T, which nobody escapes", n))
		}
	}
}

func escapePipe(p *parse.PipeNode) {
	html := parse.NewIdentifier("html").SetPos(p.Pos)
	p.Cmds = append(p.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: p.Pos, Args: []parse.Node{html}})
}
