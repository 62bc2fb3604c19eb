package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium, driven over its debugging pipe: messages of
// the DevTools protocol, each ended by a zero byte, on descriptors 3 and 4.
type browser struct {
	t      testing.TB
	to     *os.File
	next   int
	mu     sync.Mutex
	waits  map[int]chan message
	events []message
	failed error // why no more messages come
	log    bytes.Buffer
}

type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// deadline is for one command: far above what any takes.
const deadline = time.Minute

func startBrowser(t testing.TB) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("chromium is needed to look at the page: %v", err)
	}
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, to: ourOut, waits: map[int]chan message{}}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--disable-features=Translate,OptimizationHints,MediaRouter", "--user-data-dir="+t.TempDir(),
		"--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.Stderr = &b.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	go b.receive(ourIn)
	t.Cleanup(func() {
		b.t = t // and not a test inside of it, which has ended
		b.call("", "Browser.close", nil)
		ourOut.Close()
		stop := time.AfterFunc(deadline, func() { cmd.Process.Kill() })
		cmd.Wait()
		stop.Stop()
		ourIn.Close()
	})
	return b
}

// receive hands answers to those that wait and keeps events.
func (b *browser) receive(from *os.File) {
	r := bufio.NewReader(from)
	for {
		data, err := r.ReadBytes(0)
		var m message
		if err == nil {
			err = json.Unmarshal(bytes.TrimSuffix(data, []byte{0}), &m)
		}
		b.mu.Lock()
		switch {
		case err != nil:
			b.failed = err
			for _, wait := range b.waits {
				close(wait)
			}
			b.waits = nil
			b.mu.Unlock()
			return
		case m.ID != 0:
			b.waits[m.ID] <- m
			delete(b.waits, m.ID)
		default:
			b.events = append(b.events, m)
		}
		b.mu.Unlock()
	}
}

// call sends a command and returns its result.
func (b *browser) call(session, method string, params any) json.RawMessage {
	b.t.Helper()
	if params == nil {
		params = struct{}{}
	}
	raw, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	if b.failed != nil {
		b.mu.Unlock()
		b.t.Fatalf("%s: chromium is gone: %v\n%s", method, b.failed, b.log.String())
	}
	b.next++
	id, wait := b.next, make(chan message, 1)
	b.waits[id] = wait
	b.mu.Unlock()
	data, err := json.Marshal(message{ID: id, Method: method, Params: raw, SessionID: session})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(data, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case m, ok := <-wait:
		switch {
		case !ok:
			b.t.Fatalf("%s: chromium is gone: %v\n%s", method, b.failed, b.log.String())
		case m.Error != nil:
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		return m.Result
	case <-time.After(deadline):
		b.t.Fatalf("%s: no answer in %v", method, deadline)
	}
	return nil
}

// tab is a page of the browser.
type tab struct {
	*browser
	session string
}

// open shows a page and returns when it has loaded. Script says whether scripts
// may run.
func (b *browser) open(url string, script bool) *tab {
	b.t.Helper()
	var target struct{ TargetID string }
	b.decode(b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}), &target)
	var attached struct{ SessionID string }
	b.decode(b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}), &attached)
	p := &tab{b, attached.SessionID}
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		p.do(domain+".enable", nil)
	}
	p.do("Emulation.setScriptExecutionDisabled", map[string]any{"value": !script})
	p.do("Page.navigate", map[string]any{"url": url})
	for start := time.Now(); len(p.seen("Page.loadEventFired")) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > deadline {
			b.t.Fatalf("%s does not load", url)
		}
	}
	return p
}

func (b *browser) decode(raw json.RawMessage, v any) {
	b.t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		b.t.Fatalf("%s: %v", raw, err)
	}
}

func (p *tab) do(method string, params any) json.RawMessage {
	p.t.Helper()
	return p.call(p.session, method, params)
}

// seen are the events of the tab with the name.
func (p *tab) seen(method string) []message {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []message
	for _, e := range p.events {
		if e.SessionID == p.session && e.Method == method {
			list = append(list, e)
		}
	}
	return list
}

// complaints are errors and warnings of the console, and of the browser about
// the page.
func (p *tab) complaints() []string {
	var list []string
	for _, method := range []string{"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"} {
		for _, e := range p.seen(method) {
			list = append(list, method+" "+string(e.Params))
		}
	}
	return list
}

// requested are the addresses that the page asked for.
func (p *tab) requested() []string {
	var list []string
	for _, e := range p.seen("Network.requestWillBeSent") {
		var params struct{ Request struct{ URL string } }
		p.decode(e.Params, &params)
		list = append(list, params.Request.URL)
	}
	return list
}

// eval evaluates a JavaScript expression in the page, also in one whose own
// scripts may not run, and stores its value in v.
func (p *tab) eval(v any, expression string, args ...any) {
	p.t.Helper()
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Exception struct{ Description string } }
	}
	p.decode(p.do("Runtime.evaluate", map[string]any{"expression": fmt.Sprintf(expression, args...), "returnByValue": true, "awaitPromise": true}), &out)
	if out.ExceptionDetails != nil {
		p.t.Fatalf("%.200s: %s", strings.TrimSpace(expression), out.ExceptionDetails.Exception.Description)
	}
	if len(out.Result.Value) == 0 {
		p.t.Fatalf("%.200s: no value", strings.TrimSpace(expression))
	}
	p.decode(out.Result.Value, v)
}

// resize sets the size of the window in CSS pixels.
func (p *tab) resize(width, height int) {
	p.t.Helper()
	p.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false})
}

// media sets what media queries see: "screen" or "print", "light" or "dark".
func (p *tab) media(kind, scheme string) {
	p.t.Helper()
	p.do("Emulation.setEmulatedMedia", map[string]any{"media": kind,
		"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}
