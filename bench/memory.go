package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// memory is that of one process, in KiB, proc_pid_smaps_rollup(5).
type memory struct {
	Engine    string `json:"engine"`
	RSS       int    `json:"rssKiB"`
	PSS       int    `json:"pssKiB"`
	Private   int    `json:"privateKiB"`
	Anonymous int    `json:"anonymousKiB"`
}

// settle is how long the process may take to come to rest.
const settle = 3 * time.Second

// measureMemory runs a container in the background and looks at the parent of
// its first process: the monitor.
func measureMemory(e *engine) (memory, error) {
	start, pid, remove := e.detach()
	out, err := output(nil, start...)
	if err != nil {
		return memory{}, err
	}
	id := out[strings.LastIndexByte(out, '\n')+1:]
	defer output(nil, remove(id)...)
	time.Sleep(settle)
	child, err := output(nil, pid(id)...)
	if err != nil {
		return memory{}, err
	}
	parent, err := field("/proc/"+child+"/status", "PPid")
	if err != nil {
		return memory{}, err
	}
	m := memory{Engine: e.name}
	rollup := "/proc/" + strconv.Itoa(parent) + "/smaps_rollup"
	private := 0
	for _, f := range []struct {
		name string
		to   *int
	}{{"Rss", &m.RSS}, {"Pss", &m.PSS}, {"Private_Clean", &private}, {"Private_Dirty", &m.Private}, {"Anonymous", &m.Anonymous}} {
		if *f.to, err = field(rollup, f.name); err != nil {
			return m, err
		}
	}
	m.Private += private
	return m, nil
}

// field reads a number from a file of lines as "Name: 12 kB".
func field(file, name string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("%s: no %s", file, name)
}
