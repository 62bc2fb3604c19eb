package spec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// RestartName is the name of a restart policy, in Docker's words.
type RestartName string

// The restart policies.
const (
	RestartNo            RestartName = "" // or "no"
	RestartOnFailure     RestartName = "on-failure"
	RestartAlways        RestartName = "always"
	RestartUnlessStopped RestartName = "unless-stopped"
)

// RestartPolicy says after which ends a container is started anew.
type RestartPolicy struct {
	Name RestartName `json:"name,omitempty"`
	// MaxRetries bounds the starts of RestartOnFailure; 0 is no bound.
	MaxRetries int `json:"maxRetries,omitempty"`
}

func (p RestartPolicy) String() string {
	switch {
	case p.Name == RestartNo:
		return "no"
	case p.MaxRetries > 0:
		return fmt.Sprintf("%s:%d", p.Name, p.MaxRetries)
	}
	return string(p.Name)
}

// ParseRestart reads the value of --restart: no, always, unless-stopped or
// on-failure[:N].
func ParseRestart(value string) (RestartPolicy, error) {
	const flag = "--restart"
	name, number, counted := strings.Cut(value, ":")
	p := RestartPolicy{Name: RestartName(name)}
	switch p.Name {
	case RestartOnFailure:
	case "no", RestartNo:
		p.Name = RestartNo
	case RestartAlways, RestartUnlessStopped:
	default:
		return RestartPolicy{}, badValue(flag, value, "%s", unknown("policy", name, []string{"no", "on-failure", "always", "unless-stopped"}))
	}
	if !counted {
		return p, nil
	}
	if p.Name != RestartOnFailure {
		return RestartPolicy{}, badValue(flag, value, "only on-failure takes a number of times, as in on-failure:3")
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n < 0 {
		return RestartPolicy{}, badValue(flag, value, "not a number of times; write as in on-failure:3")
	}
	p.MaxRetries = int(n)
	return p, nil
}

// Healthcheck is how to find out whether a container does its work, in the shape
// of Docker's. Times in nanoseconds; what is zero is the image's, or the default.
type Healthcheck struct {
	// Test is nothing, {"NONE"}, {"CMD", word...} or {"CMD-SHELL", line}.
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"` // between two looks
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"` // in which failures do not count
	StartInterval time.Duration `json:",omitempty"` // in the start period
	Retries       int           `json:",omitempty"` // failures in a row that count
}

// Docker's defaults.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
)

// MergeHealth lays what the user asked for over the image's health check; nil
// where there is none.
func MergeHealth(image, user *Healthcheck) *Healthcheck {
	h := Healthcheck{}
	if image != nil {
		h = *image
	}
	if user != nil {
		if len(user.Test) > 0 {
			h.Test = user.Test
		}
		over(&h.Interval, user.Interval)
		over(&h.Timeout, user.Timeout)
		over(&h.StartPeriod, user.StartPeriod)
		over(&h.StartInterval, user.StartInterval)
		over(&h.Retries, user.Retries)
	}
	if len(h.Test) == 0 || h.Test[0] == "NONE" || h.Test[0] == "" {
		return nil
	}
	return &h
}

func over[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}

// WithDefaults fills in what neither the image nor the user says.
func (h Healthcheck) WithDefaults() Healthcheck {
	all := Healthcheck{Interval: healthInterval, Timeout: healthTimeout, StartInterval: healthStartInterval, Retries: healthRetries}
	over(&all.Interval, h.Interval)
	over(&all.Timeout, h.Timeout)
	over(&all.StartInterval, h.StartInterval)
	over(&all.Retries, h.Retries)
	all.Test, all.StartPeriod = h.Test, h.StartPeriod
	return all
}

// Command is the command line of the test. shell is the image's SHELL.
func (h *Healthcheck) Command(shell []string) ([]string, error) {
	switch kind := h.Test[0]; {
	case kind == "CMD" && len(h.Test) > 1:
		return h.Test[1:], nil
	case kind == "CMD-SHELL" && len(h.Test) == 2:
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(slices.Clone(shell), h.Test[1]), nil
	}
	return nil, fmt.Errorf("health check %q: must be CMD and words, or CMD-SHELL and one line", h.Test)
}

// ParseHealthDuration reads a time of the named flag, as 5s or 1m30s.
func ParseHealthDuration(flag, value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	switch {
	case err != nil:
		return 0, badValue(flag, value, "not a time; write as in 5s or 1m30s")
	case d != 0 && d < time.Millisecond:
		return 0, badValue(flag, value, "cannot be less than 1ms; 0 is the image's, or the default")
	}
	return d, nil
}

// ParseHealthRetries reads the value of --health-retries.
func ParseHealthRetries(value string) (int, error) {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 0 {
		return 0, badValue("--health-retries", value, "not a number of failures; write as in 3")
	}
	return int(n), nil
}

// LogDriver says where the output of a container goes.
type LogDriver string

// The log drivers.
const (
	LogJSONFile LogDriver = "json-file" // also ""
	LogLocal    LogDriver = "local"     // json-file with other defaults
	LogJournald LogDriver = "journald"
	LogNone     LogDriver = "none"
)

// LogConfig is what --log-driver and --log-opt ask for.
type LogConfig struct {
	Driver  LogDriver         `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"`
}

// Name is the driver's name.
func (c LogConfig) Name() LogDriver {
	if c.Driver == "" {
		return LogJSONFile
	}
	return c.Driver
}

// ParseLogDriver reads the value of --log-driver.
func ParseLogDriver(value string) (LogDriver, error) {
	const flag = "--log-driver"
	switch d := LogDriver(value); d {
	case LogJSONFile, LogLocal, LogJournald, LogNone:
		return d, nil
	case "k8s-file": // podman's
		return "", badValue(flag, value, "use json-file, which brig logs reads")
	case "syslog", "gelf", "fluentd", "awslogs", "splunk", "gcplogs", "etwlogs", "logentries":
		return "", badValue(flag, value, "this driver is not supported; use json-file, local, journald or none, and let a collector read from there")
	}
	return "", badValue(flag, value, "%s", unknown("driver", value, []string{"json-file", "local", "journald", "none"}))
}

// ParseLogOpt reads the value of --log-opt, NAME=VALUE. Which names a driver
// knows is checked with all options together.
func ParseLogOpt(value string) (name, val string, err error) {
	name, val, ok := strings.Cut(value, "=")
	if !ok || name == "" {
		return "", "", badValue("--log-opt", value, "write NAME=VALUE, as in max-size=10m")
	}
	return name, val, nil
}

// LogFiles is how the files of a log are kept.
type LogFiles struct {
	MaxSize  int64 // bytes; 0 is unlimited
	MaxFiles int
	Compress bool
	// Buffer is how many bytes of output may wait to be written, beyond which
	// lines are left out; with 0 the container waits.
	Buffer int64
}

// defaultBuffer is Docker's max-buffer-size.
const defaultBuffer = 1 << 20

// Files tells how the files of the log are kept. For journald they are Brig's
// own copy, as journald's cannot be read without its library.
func (c LogConfig) Files() (LogFiles, error) {
	f := LogFiles{MaxFiles: 1}
	if n := c.Name(); n == LogLocal || n == LogJournald {
		f = LogFiles{MaxSize: 20 << 20, MaxFiles: 5, Compress: true} // Docker's of both
	}
	bad := func(name, fix string) error {
		return badValue("--log-opt", name+"="+c.Options[name], "%s", fix)
	}
	if v, ok := c.Options["max-size"]; ok {
		n, err := units.RAMInBytes(v)
		if err != nil || n <= 0 && v != "-1" {
			return f, bad("max-size", "not a size; write as in 10m")
		}
		f.MaxSize = max(n, 0)
	}
	if v, ok := c.Options["max-file"]; ok {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 1 {
			return f, bad("max-file", "must be a number, 1 or more")
		}
		f.MaxFiles = int(n)
	}
	if v, ok := c.Options["compress"]; ok {
		var err error
		if f.Compress, err = strconv.ParseBool(v); err != nil {
			return f, bad("compress", "use true or false")
		}
		if f.Compress && (f.MaxFiles < 2 || f.MaxSize == 0) {
			return f, bad("compress", "needs max-file of 2 or more, and max-size: only files that are full are compressed")
		}
	}
	f.Compress = f.Compress && f.MaxFiles > 1 && f.MaxSize > 0
	switch c.Options["mode"] {
	case "", "blocking":
		if _, ok := c.Options["max-buffer-size"]; ok {
			return f, bad("max-buffer-size", "needs mode=non-blocking")
		}
	case "non-blocking":
		f.Buffer = defaultBuffer
		if v, ok := c.Options["max-buffer-size"]; ok {
			n, err := units.RAMInBytes(v)
			if err != nil || n <= 0 {
				return f, bad("max-buffer-size", "not a size; write as in 4m")
			}
			f.Buffer = n
		}
	default:
		return f, bad("mode", "use blocking or non-blocking")
	}
	return f, nil
}

// check refuses options that the driver does not know.
func (c LogConfig) check() error {
	if _, err := ParseLogDriver(string(c.Name())); err != nil {
		return err
	}
	known := []string{"tag", "labels", "labels-regex", "env", "env-regex", "mode", "max-buffer-size"}
	switch c.Name() {
	case LogNone:
		known = nil
	case LogJSONFile, LogLocal:
		known = append(known, "max-size", "max-file", "compress")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		switch {
		case len(known) == 0:
			return badValue("--log-opt", name+"="+c.Options[name], "the driver %s has no options", c.Name())
		case !slices.Contains(known, name):
			return badValue("--log-opt", name+"="+c.Options[name], "%s", unknown(fmt.Sprintf("option of %s", c.Name()), name, known))
		}
	}
	_, err := c.Files()
	return err
}

// checkLifecycle checks what happens to the container while it runs and when it
// ends.
func (o *Options) checkLifecycle() error {
	if _, err := ParseRestart(o.Restart.String()); err != nil {
		return err
	}
	if o.Health != nil && len(o.Health.Test) > 0 && o.Health.Test[0] != "NONE" {
		if _, err := o.Health.Command(nil); err != nil {
			return err
		}
	}
	return o.Log.check()
}
