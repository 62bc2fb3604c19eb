package report

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/brig-run/brig/capability"
)

// TestInBrowser looks at pages in Chromium, all in one, since it is slow to
// start.
func TestInBrowser(t *testing.T) {
	inputs := map[string]Input{"nginx": nginxInput(t), "empty": emptyInput(), "huge": hugeInput(), "hostile": hostileInput(t)}
	site := newSite(t, inputs)
	b := startBrowser(t)
	for name := range inputs {
		t.Run(name, func(t *testing.T) {
			p := b.openIn(t, site.URL+"/"+name, true)
			checkClean(t, p, site, name)
			checkStructure(t, p)
			checkWidths(t, p)
		})
	}
	t.Run("dom", func(t *testing.T) { checkNginx(t, b.openIn(t, site.URL+"/nginx", true)) })
	t.Run("colours", func(t *testing.T) { checkColours(t, b, site) })
	t.Run("hover", func(t *testing.T) { checkHover(t, b.openIn(t, site.URL+"/nginx", false)) })
	t.Run("escaped", func(t *testing.T) { checkEscaped(t, b.openIn(t, site.URL+"/hostile", true)) })
	t.Run("policy", func(t *testing.T) { checkPolicy(t, b.openIn(t, site.URL+"/nginx", true), site) })
	t.Run("script", func(t *testing.T) { checkScript(t, b, site) })
	t.Run("print", func(t *testing.T) { checkPrint(t, b, site) })
}

// openIn is open for a test inside of the browser's.
func (b *browser) openIn(t *testing.T, url string, script bool) *tab {
	t.Helper()
	b.t = t
	return b.open(url, script)
}

// site serves pages and remembers what was asked for.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func newSite(t *testing.T, inputs map[string]Input) *site {
	s := &site{}
	pages := map[string]string{}
	for name, in := range inputs {
		pages["/"+name] = render(t, in)
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.URL.Path)
		s.mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, pages[r.URL.Path])
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) askedFor(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, a := range s.asked {
		if a == path {
			n++
		}
	}
	return n
}

// checkClean: the page asks for nothing, and the browser has no complaint.
func checkClean(t *testing.T, p *tab, s *site, name string) {
	if got := p.complaints(); len(got) > 0 {
		t.Errorf("complaints: %s", got)
	}
	if got := p.requested(); len(got) != 1 || got[0] != s.URL+"/"+name {
		t.Errorf("requests: %s", got)
	}
}

// checkStructure: headings descend without gaps, tables have heads with scopes,
// identifiers are unique, and links lead somewhere.
func checkStructure(t *testing.T, p *tab) {
	var faults []string
	p.eval(&faults, `(() => {
		const faults = [], ids = new Set();
		let level = 0;
		for (const h of document.querySelectorAll("h1,h2,h3,h4")) {
			const l = +h.tagName[1];
			if (l > level + 1) faults.push("heading " + h.textContent + " skips a level");
			if (!h.textContent.trim()) faults.push("empty heading");
			level = l;
		}
		if (document.querySelectorAll("h1").length != 1) faults.push("not one h1");
		for (const th of document.querySelectorAll("th")) if (!["col", "row"].includes(th.scope)) faults.push("th without scope: " + th.textContent);
		for (const table of document.querySelectorAll("table")) {
			if (!table.caption) faults.push("table without caption");
			const n = table.rows[0].cells.length;
			for (const row of table.rows) if (row.cells.length != n) faults.push("row of " + row.cells.length + " cells, not " + n);
		}
		for (const e of document.querySelectorAll("[id]")) { if (ids.has(e.id)) faults.push("two of id " + e.id); ids.add(e.id); }
		for (const a of document.querySelectorAll("a")) if (!a.getAttribute("href").startsWith("#") || !ids.has(a.getAttribute("href").slice(1))) faults.push("link to " + a.getAttribute("href"));
		for (const e of document.querySelectorAll("[aria-labelledby]")) if (!ids.has(e.getAttribute("aria-labelledby"))) faults.push("no label");
		if (!document.documentElement.lang) faults.push("no language");
		return faults;
	})()`)
	if len(faults) > 0 {
		t.Errorf("structure: %q", faults)
	}
}

// checkWidths: at every width, with all details open, nothing sticks out.
func checkWidths(t *testing.T, p *tab) {
	for _, width := range []int{320, 400, 720, 1000, 1280} {
		p.resize(width, 900)
		var out struct {
			Width int
			Wide  []string
		}
		p.eval(&out, `(() => {
			for (const d of document.querySelectorAll("details")) d.open = true;
			const wide = [];
			for (const e of document.body.querySelectorAll("*")) {
				const r = e.getBoundingClientRect();
				if (r.width && r.right > innerWidth + 1 && !e.closest("svg") && wide.length < 5) wide.push(e.tagName + "." + e.className + ": " + e.textContent.slice(0, 60));
			}
			return {width: document.documentElement.scrollWidth, wide};
		})()`)
		if out.Width > width || len(out.Wide) > 0 {
			t.Errorf("at %d px the page is %d px wide: %q", width, out.Width, out.Wide)
		}
	}
}

// checkNginx: what the page says about nginx, as a reader sees it.
func checkNginx(t *testing.T, p *tab) {
	tests := []struct{ expression, want string }{
		{`document.title`, "nginx · Brig policy report"},
		{`document.querySelector(".verdict").innerText`, "Needs 4 of 14 default capabilities and 89 of 385 system calls."},
		{`document.querySelector(".marks").innerText.replace(/\s*\n\s*/g, " ")`, "✓ Good: Proved by 9 runs ✓ Good: Nothing new in the last 3 of 8 runs ✓ Good: Nothing was lost in recording"},
		{`document.querySelectorAll(".cap").length`, "41"},
		{`[...document.querySelectorAll(".cap.verified")].map(e => e.querySelector("code").innerText).join()`, "CHOWN,SETGID,SETUID,NET_BIND_SERVICE"},
		{`document.querySelectorAll(".cap.default").length`, "14"},
		{`document.querySelectorAll(".strip .q").length`, "385"},
		{`document.querySelectorAll(".strip .q.used, .strip .q.verified, .strip .q.unseen").length`, "89"},
		{`document.querySelector("#cap-CHOWN .breaks").innerText.slice(0, 24)`, "probe failed after 2.0 s"},
		{`[...document.querySelectorAll(".calls tr")].find(r => r.cells[0].textContent == "socket").querySelector(".detail").textContent`,
			"socket(AF_UNIX or AF_INET or AF_INET6, SOCK_STREAM or SOCK_DGRAM or SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0) enforced for argument 0"},
		{`document.querySelectorAll(".lane").length`, "7"},
		{`document.querySelectorAll(".lane .use").length`, "86"},
		{`document.querySelectorAll(".ready").length`, "8"},
		{`[...document.querySelectorAll(".denials .flag")].map(e => e.innerText).join()`, "--cap-add SYS_RESOURCE,--cap-add SYS_TIME,--cap-add SYS_ADMIN"},
		{`document.querySelectorAll(".runs tbody tr").length`, "17"},
		{`document.querySelectorAll(".command pre").length`, "3"},
		{`getComputedStyle(document.querySelector(".bar .policy")).width.replace(/\..*/, "") < getComputedStyle(document.querySelector(".bar .default")).width.replace(/\..*/, "")`, "true"},
	}
	p.resize(1280, 900)
	for _, test := range tests {
		var got any
		p.eval(&got, "%s", test.expression)
		if fmt.Sprint(got) != test.want {
			t.Errorf("%s:\ngot  %v\nwant %s", test.expression, got, test.want)
		}
	}
}

// checkHover: who points at a capability reads what it allows, without a script.
func checkHover(t *testing.T, p *tab) {
	p.resize(1280, 900)
	var at struct{ X, Y float64 }
	p.eval(&at, `(() => {
		const cell = [...document.querySelectorAll(".cap")].find((e) => e.querySelector("code").textContent == "SYS_TIME");
		cell.scrollIntoView({block: "center"});
		const r = cell.getBoundingClientRect();
		return {x: r.x + r.width / 2, y: r.y + r.height / 2};
	})()`)
	const tips = `[...document.querySelectorAll(".tip")].filter((e) => getComputedStyle(e).visibility == "visible").map((e) => e.textContent)`
	var before, after []string
	p.eval(&before, tips)
	p.do("Input.dispatchMouseEvent", map[string]any{"type": "mouseMoved", "x": at.X, "y": at.Y})
	p.eval(&after, tips)
	if len(before) != 0 || len(after) != 1 || after[0] != "SYS_TIME not granted: was refused. "+capability.SYS_TIME.Allows() {
		t.Errorf("shown before %q, after %q", before, after)
	}
}

// contrasts are texts whose contrast with what is behind them is below 4.5, or
// below 3 if they are large (WCAG 2.2, criterion 1.4.3).
const contrasts = `(() => {
	for (const d of document.querySelectorAll("details")) d.open = true;
	const rgb = (c) => (c.match(/[\d.]+/g) || []).map(Number);
	const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
	const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length == 3 || c[3] > 0) return c; } return [255, 255, 255]; };
	const low = new Set();
	let seen = 0;
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = walk.nextNode();) {
		const e = n.parentElement, s = getComputedStyle(e);
		if (!n.data.trim() || e.closest(".vh,script,title") || s.visibility == "hidden" || !e.getClientRects().length) continue;
		seen++;
		const a = light(rgb(e.closest("svg") ? s.fill : s.color)), b = light(behind(e));
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		const large = parseFloat(s.fontSize) >= 24 || parseFloat(s.fontSize) >= 18.66 && s.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5)) low.add(e.tagName + "." + e.className + " " + ratio.toFixed(2) + " " + n.data.slice(0, 30));
	}
	return {seen, low: [...low], ground: getComputedStyle(document.body).backgroundColor};
})()`

func checkColours(t *testing.T, b *browser, s *site) {
	for _, name := range []string{"nginx", "huge"} {
		p := b.openIn(t, s.URL+"/"+name, true)
		grounds := map[string]bool{}
		for _, scheme := range []string{"light", "dark"} {
			p.media("screen", scheme)
			var out struct {
				Seen   int
				Low    []string
				Ground string
			}
			p.eval(&out, "%s", contrasts)
			if out.Seen < 500 || len(out.Low) > 0 {
				t.Errorf("%s, %s: of %d texts, these are hard to read: %q", name, scheme, out.Seen, out.Low)
			}
			grounds[out.Ground] = true
		}
		if len(grounds) != 2 {
			t.Errorf("%s: light and dark have one ground: %v", name, grounds)
		}
	}
}

// attack is what a hostile name says: it tries to leave text, attributes, scripts
// and styles, and to become code.
const attack = `</script></style></title>--><script>window.pwned=1</script><img src="http://attacker.invalid/x" onerror='window.pwned=1'>" onmouseover="window.pwned=1" x='{{.CSS}}`

// hostileInput is nginx's with every text in it replaced by an attack, but for
// those that must be names.
func hostileInput(t *testing.T) Input {
	in := nginxInput(t)
	poison(reflect.ValueOf(&in).Elem(), "")
	for i := range in.Policy.Capabilities {
		in.Policy.Capabilities[i].Name = nginxInput(t).Policy.Capabilities[i].Name
	}
	return in
}

// poison replaces the strings in v. Half of the names of calls stay what they
// are, so that their rows have all that rows can have.
func poison(v reflect.Value, field string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem(), field)
		}
	case reflect.Struct:
		if v.Type().PkgPath() == "time" {
			return
		}
		for i := range v.NumField() {
			poison(v.Field(i), v.Type().Field(i).Name)
		}
	case reflect.Slice:
		for i := range v.Len() {
			name := field
			if field == "Syscalls" && v.Index(i).Kind() == reflect.Struct && i%2 == 0 {
				name = "keep"
				poison(v.Index(i), name)
				v.Index(i).FieldByName("Name").SetString("read" + strings.Repeat("v", i))
				continue
			}
			poison(v.Index(i), name)
		}
	case reflect.String:
		if field != "Status" && field != "Purpose" && field != "By" {
			v.SetString(attack)
		}
	}
}

// checkEscaped: all of it is text, in every place.
func checkEscaped(t *testing.T, p *tab) {
	var out struct {
		Scripts, Styles, Images, Handlers, Shown int
		Pwned                                    bool
		Title                                    string
	}
	p.eval(&out, `({scripts: document.scripts.length, styles: document.querySelectorAll("style").length, images: document.querySelectorAll("img").length,
		handlers: document.querySelectorAll("[onerror],[onmouseover],[x='{{.CSS}}']").length,
		shown: document.body.textContent.split("<script>window.pwned=1</script>").length - 1,
		pwned: "pwned" in window, title: document.title})`)
	if out.Scripts != 1 || out.Styles != 1 || out.Images != 0 || out.Handlers != 0 || out.Pwned {
		t.Errorf("the page has become another: %+v", out)
	}
	if out.Shown < 200 {
		t.Errorf("the attack is shown as text %d times: it should be wherever there was text", out.Shown)
	}
	if out.Title != attack+" · Brig policy report" {
		t.Errorf("title %q", out.Title)
	}
}

// checkPolicy: if something did get into the page, the browser would neither run
// it nor fetch for it.
func checkPolicy(t *testing.T, p *tab, s *site) {
	var ran bool
	p.eval(&ran, `(async () => {
		const script = document.createElement("script");
		script.textContent = "window.ran = true";
		document.body.append(script);
		const image = document.createElement("img");
		const failed = new Promise((done) => image.onerror = done);
		image.src = "/beacon";
		document.body.append(image);
		await failed;
		try { await fetch("/beacon"); } catch {}
		return "ran" in window;
	})()`)
	if ran || s.askedFor("/beacon") != 0 {
		t.Errorf("script ran: %v, requests: %d", ran, s.askedFor("/beacon"))
	}
	if len(p.complaints()) == 0 {
		t.Error("the browser did not even complain: does this test see complaints?")
	}
}

// checkScript: the buttons work, and without the script they are not there, and
// all else is.
func checkScript(t *testing.T, b *browser, s *site) {
	p := b.openIn(t, s.URL+"/nginx", true)
	b.call("", "Browser.grantPermissions", map[string]any{"origin": s.URL, "permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}})
	p.do("Page.bringToFront", nil)
	var copied, wanted string
	p.eval(&copied, `(async () => {
		const button = document.querySelectorAll(".copy")[1];
		button.click();
		while (button.textContent == "Copy") await new Promise((done) => setTimeout(done, 5));
		if (button.textContent != "Copied") return button.textContent;
		return navigator.clipboard.readText();
	})()`)
	wanted = nginxInput(t).Commands[1].Text
	if copied != wanted {
		t.Errorf("copied %q, want %q", copied, wanted)
	}
	const open = `document.querySelectorAll("#calls details[open]").length`
	var before, after, groups int
	p.eval(&before, open)
	p.eval(&groups, `(document.querySelector("[data-open]").click(), document.querySelectorAll("#calls details").length)`)
	p.eval(&after, open)
	if before != 0 || after != groups || groups < 15 {
		t.Errorf("of %d groups %d are open at first, %d after the click", groups, before, after)
	}

	p = b.openIn(t, s.URL+"/nginx", false)
	var shown, text int
	p.eval(&shown, `[...document.querySelectorAll("button")].filter((b) => b.getClientRects().length).length`)
	p.eval(&text, `[...document.querySelectorAll(".command pre")].filter((e) => e.innerText.length > 20 && e.getClientRects().length).length`)
	if shown != 0 || text != 3 {
		t.Errorf("without script: %d buttons, %d commands", shown, text)
	}
}

// checkPrint: all details are on paper, with and without the script, and nothing
// is cut off.
func checkPrint(t *testing.T, b *browser, s *site) {
	pages := regexp.MustCompile(`/Type\s*/Page\b[^s]`)
	for _, test := range []struct {
		name     string
		script   bool
		from, to int
	}{{"nginx", true, 6, 20}, {"nginx", false, 6, 20}, {"empty", true, 2, 10}, {"huge", true, 40, 250}} {
		p := b.openIn(t, s.URL+"/"+test.name, test.script)
		var out struct{ Data string }
		p.decode(p.do("Page.printToPDF", map[string]any{"preferCSSPageSize": true}), &out)
		data, err := base64.StdEncoding.DecodeString(out.Data)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(pages.FindAll(data, -1)); n < test.from || n > test.to {
			t.Errorf("%s, script %v: %d pages of paper, want %d to %d", test.name, test.script, n, test.from, test.to)
		}
		p.media("print", "light")
		p.resize(720, 1000)
		var paper struct{ Width, Hidden, Nav int }
		p.eval(&paper, `({width: document.documentElement.scrollWidth,
			hidden: [...document.querySelectorAll("details th, details .blocked")].filter((e) => !e.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true})).length,
			nav: document.querySelector("nav").getClientRects().length})`)
		if paper.Width > 720 || paper.Hidden > 0 || paper.Nav > 0 {
			t.Errorf("%s, script %v, on paper: %+v", test.name, test.script, paper)
		}
	}
}
