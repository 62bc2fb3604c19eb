package spec

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseRestart(t *testing.T) {
	for value, want := range map[string]RestartPolicy{
		"no": {}, "": {}, "always": {Name: RestartAlways}, "unless-stopped": {Name: RestartUnlessStopped},
		"on-failure": {Name: RestartOnFailure}, "on-failure:3": {Name: RestartOnFailure, MaxRetries: 3}, "on-failure:0": {Name: RestartOnFailure},
	} {
		if got, err := ParseRestart(value); err != nil || got != want {
			t.Errorf("%q: %+v, %v", value, got, err)
		}
		if again, err := ParseRestart(want.String()); err != nil || again != want {
			t.Errorf("%q does not come back: %+v, %v", want, again, err)
		}
	}
	for value, part := range map[string]string{
		"alway": "did you mean always", "on-failure:x": "number of times", "on-failure:-1": "number of times", "always:3": "only on-failure",
		"no:1": "only on-failure", "unless-stoped": "did you mean unless-stopped", "on-failure:": "number", "on-failure:99999999999": "number",
	} {
		if _, err := ParseRestart(value); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v; want %q", value, err, part)
		}
	}
}

func FuzzParseRestart(f *testing.F) {
	f.Add("on-failure:3")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseRestart(s)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		if q, err := ParseRestart(p.String()); err != nil || p != q {
			t.Errorf("%q: %+v becomes %+v, %v", s, p, q, err)
		}
	})
}

func TestMergeHealth(t *testing.T) {
	img := &Healthcheck{Test: []string{"CMD", "probe"}, Interval: time.Second, Retries: 2}
	for name, c := range map[string]struct{ image, user, want *Healthcheck }{
		"nothing":       {nil, nil, nil},
		"of the image":  {img, nil, img},
		"parts":         {img, &Healthcheck{Interval: time.Minute}, &Healthcheck{Test: img.Test, Interval: time.Minute, Retries: 2}},
		"of the user":   {nil, &Healthcheck{Test: []string{"CMD-SHELL", "x"}}, &Healthcheck{Test: []string{"CMD-SHELL", "x"}}},
		"off":           {img, &Healthcheck{Test: []string{"NONE"}}, nil},
		"off by image":  {&Healthcheck{Test: []string{"NONE"}}, nil, nil},
		"times only":    {nil, &Healthcheck{Interval: time.Second}, nil},
		"over an image": {&Healthcheck{Test: []string{"NONE"}}, &Healthcheck{Test: []string{"CMD", "a"}}, &Healthcheck{Test: []string{"CMD", "a"}}},
	} {
		if got := MergeHealth(c.image, c.user); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	d := Healthcheck{Test: img.Test}.WithDefaults()
	if d.Interval != 30*time.Second || d.Timeout != 30*time.Second || d.StartInterval != 5*time.Second || d.Retries != 3 || d.StartPeriod != 0 {
		t.Errorf("defaults: %+v", d)
	}
}

func TestHealthCommand(t *testing.T) {
	for _, c := range []struct{ test, shell, want []string }{
		{[]string{"CMD", "a", "b"}, nil, []string{"a", "b"}},
		{[]string{"CMD-SHELL", "a b"}, nil, []string{"/bin/sh", "-c", "a b"}},
		{[]string{"CMD-SHELL", "a b"}, []string{"/bin/bash", "-ec"}, []string{"/bin/bash", "-ec", "a b"}},
		{[]string{"CMD"}, nil, nil}, {[]string{"CMD-SHELL"}, nil, nil}, {[]string{"CMD-SHELL", "a", "b"}, nil, nil}, {[]string{"cmd", "a"}, nil, nil},
	} {
		got, err := (&Healthcheck{Test: c.test}).Command(c.shell)
		if !reflect.DeepEqual(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%q: %q, %v", c.test, got, err)
		}
	}
	for _, v := range []string{"x", "5", "1us", "-3s"} {
		if _, err := ParseHealthDuration("--health-interval", v); err == nil {
			t.Errorf("%s was accepted", v)
		}
	}
}

func TestLogConfig(t *testing.T) {
	opt := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for _, c := range []struct {
		cfg  LogConfig
		want LogFiles
		err  string
	}{
		{LogConfig{}, LogFiles{MaxFiles: 1}, ""},
		{LogConfig{Options: opt("max-size", "10m", "max-file", "3")}, LogFiles{10 << 20, 3, false, 0}, ""},
		{LogConfig{Driver: "local"}, LogFiles{20 << 20, 5, true, 0}, ""},
		{LogConfig{Driver: "local", Options: opt("max-file", "1")}, LogFiles{20 << 20, 1, false, 0}, ""},
		{LogConfig{Driver: "json-file", Options: opt("max-size", "1k", "max-file", "2", "compress", "true", "tag", "x", "mode", "blocking")}, LogFiles{1024, 2, true, 0}, ""},
		{LogConfig{Options: opt("compress", "true")}, LogFiles{}, "max-file"},
		{LogConfig{Options: opt("max-size", "much")}, LogFiles{}, "not a size"},
		{LogConfig{Options: opt("max-file", "0")}, LogFiles{}, "1 or more"},
		{LogConfig{Options: opt("max-siz", "1m")}, LogFiles{}, "did you mean max-size"},
		{LogConfig{Options: opt("mode", "non-blocking")}, LogFiles{0, 1, false, 1 << 20}, ""},
		{LogConfig{Driver: "journald", Options: opt("mode", "non-blocking", "max-buffer-size", "4m")}, LogFiles{20 << 20, 5, true, 4 << 20}, ""},
		{LogConfig{Options: opt("max-buffer-size", "4m")}, LogFiles{}, "needs mode=non-blocking"},
		{LogConfig{Options: opt("mode", "non-blocking", "max-buffer-size", "-1")}, LogFiles{}, "not a size"},
		{LogConfig{Options: opt("mode", "nonblocking")}, LogFiles{}, "use blocking or non-blocking"},
		{LogConfig{Driver: "none", Options: opt("tag", "x")}, LogFiles{}, "no options"},
		{LogConfig{Driver: "journald", Options: opt("max-size", "1m")}, LogFiles{}, "unknown option of journald"},
		{LogConfig{Driver: "syslog"}, LogFiles{}, "not supported"},
		{LogConfig{Driver: "jsonfile"}, LogFiles{}, "did you mean json-file"},
	} {
		err := c.cfg.check()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v; want %q", c.cfg, err, c.err)
			}
			continue
		}
		if got, ferr := c.cfg.Files(); err != nil || ferr != nil || got != c.want {
			t.Errorf("%+v: %+v, %v, %v", c.cfg, got, err, ferr)
		}
	}
}

func TestParseLimits(t *testing.T) {
	for value, want := range map[string]DeviceRate{"/dev/sda:10mb": {"/dev/sda", 10 << 20}, "/dev/x:1": {"/dev/x", 1}} {
		if got, err := ParseDeviceRate("--device-read-bps", value); err != nil || got != want {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "sda:1m", "/dev/sda", "/dev/sda:", "/dev/sda:x", "/dev/sda:-1", "/dev/sda:0"} {
		for _, flag := range []string{"--device-read-bps", "--device-write-iops", "--blkio-weight-device"} {
			if _, err := ParseDeviceRate(flag, value); err == nil {
				t.Errorf("%s %s was accepted", flag, value)
			}
		}
	}
	for value, want := range map[string]DeviceRule{"c 189:* rwm": {"c", 189, -1, "rwm"}, "a *:* r": {"a", -1, -1, "r"}, "b 8:0 rw": {"b", 8, 0, "rw"}} {
		if got, err := ParseDeviceRule(value); err != nil || got != want {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "c 1:2", "d 1:2 r", "c 1 r", "c x:1 r", "c 1:2 x", "c 1:2 rr", "c -1:2 r", "c 1:2 r m"} {
		if _, err := ParseDeviceRule(value); err == nil {
			t.Errorf("%q was accepted", value)
		}
	}
	for value, want := range map[string]string{"batch": "/batch", "/a/b/": "/a/b", "a.slice": "/a.slice", "/": "", "": "", "../x": "", "a/../../b": ""} {
		if got, err := ParseCgroupParent(value); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", value, got, err)
		}
	}
	for _, value := range []string{"x", "101", "-2"} {
		if _, err := ParseSwappiness(value); err == nil {
			t.Errorf("swappiness %s was accepted", value)
		}
	}
	for _, value := range []string{"x", "9", "1001"} {
		if _, err := ParseBlkioWeight(value); err == nil {
			t.Errorf("weight %s was accepted", value)
		}
	}
}
