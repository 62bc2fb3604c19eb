package ocicmd

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// logger writes messages in the two forms of runc's log, which engines read to
// learn why a command failed.
type logger struct {
	out  io.Writer
	file bool // out is a file of the caller's, not the standard error
	json bool
}

func (l *logger) open(f *pflag.FlagSet) error {
	switch format, _ := f.GetString("log-format"); format {
	case "json":
		l.json = true
	case "text", "":
	default:
		return fmt.Errorf("--log-format %q: want text or json", format)
	}
	name, _ := f.GetString("log")
	if name == "" {
		return nil
	}
	out, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_SYNC, 0o644)
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	l.out, l.file = out, true
	return nil
}

func (l *logger) write(level, msg string) {
	now := time.Now().Format(time.RFC3339)
	if l.json {
		b, err := json.Marshal(struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
			Time  string `json:"time"`
		}{level, msg, now})
		if err == nil {
			l.out.Write(append(b, '\n'))
		}
		return
	}
	if !l.file {
		fmt.Fprintf(l.out, "%s: %s\n", Link, prefixed(level, msg))
		return
	}
	fmt.Fprintf(l.out, "time=%s level=%s msg=%s\n", strconv.Quote(now), level, strconv.Quote(msg))
}

func prefixed(level, msg string) string {
	if level == "error" {
		return msg
	}
	return level + ": " + msg
}
