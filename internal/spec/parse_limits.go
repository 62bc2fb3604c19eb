package spec

import (
	"path"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// ParseMicroseconds reads a number of microseconds for the named flag.
func ParseMicroseconds(flag, value string) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < -1 {
		return 0, badValue(flag, value, "not a number of microseconds")
	}
	return n, nil
}

// ParseSwappiness reads the value of --memory-swappiness, 0 to 100, or -1 for
// the kernel's, which is nil.
func ParseSwappiness(value string) (*int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < -1 || n > 100 {
		return nil, badValue("--memory-swappiness", value, "must be a number from 0 to 100; -1 is the kernel's own")
	}
	if n < 0 {
		return nil, nil
	}
	return &n, nil
}

// ParseBlkioWeight reads the value of --blkio-weight, 10 to 1000; 0 is the
// kernel's own.
func ParseBlkioWeight(value string) (uint16, error) {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n != 0 && (n < 10 || n > 1000) {
		return 0, badValue("--blkio-weight", value, "must be a number from 10 to 1000; 0 is the kernel's own")
	}
	return uint16(n), nil
}

// ParseDeviceRate reads a limit for one device, PATH:RATE, of the named flag.
// The rate of --blkio-weight-device is a weight, that of a flag ending in -bps
// bytes a second, of one ending in -iops operations.
func ParseDeviceRate(flag, value string) (DeviceRate, error) {
	at := strings.LastIndexByte(value, ':')
	if at < 0 || !strings.HasPrefix(value, "/") {
		return DeviceRate{}, badValue(flag, value, "write PATH:RATE, as in /dev/sda:10mb")
	}
	d := DeviceRate{Path: path.Clean(value[:at])}
	var err error
	if strings.HasSuffix(flag, "-bps") {
		var n int64
		n, err = units.RAMInBytes(value[at+1:])
		if d.Rate = uint64(n); err != nil || n <= 0 {
			return d, badValue(flag, value, "the rate %q is no number of bytes, as in 10mb", value[at+1:])
		}
		return d, nil
	}
	if d.Rate, err = strconv.ParseUint(value[at+1:], 10, 64); err != nil || d.Rate == 0 {
		return d, badValue(flag, value, "the rate %q is no number above 0", value[at+1:])
	}
	if flag == "--blkio-weight-device" && (d.Rate < 10 || d.Rate > 1000) {
		return d, badValue(flag, value, "a weight is from 10 to 1000")
	}
	return d, nil
}

// ParseCgroupParent reads the value of --cgroup-parent: a path below the root of
// the cgroup hierarchies.
func ParseCgroupParent(value string) (string, error) {
	clean := path.Clean("/" + value)
	if value == "" || clean == "/" || strings.ContainsAny(value, "\x00\n") || strings.Contains("/"+value+"/", "/../") {
		return "", badValue("--cgroup-parent", value, "write a path below the root of the cgroups, as in /batch")
	}
	return clean, nil
}

// ParseDeviceRule reads the value of --device-cgroup-rule, as in "c 189:* rwm".
func ParseDeviceRule(value string) (DeviceRule, error) {
	const flag = "--device-cgroup-rule"
	const form = `write TYPE MAJOR:MINOR PERMISSIONS, as in "c 189:* rwm"`
	f := strings.Fields(value)
	if len(f) != 3 || len(f[0]) != 1 || !strings.Contains("abc", f[0]) || !isDevicePermissions(f[2]) {
		return DeviceRule{}, badValue(flag, value, form)
	}
	r := DeviceRule{Type: f[0], Permissions: f[2]}
	major, minor, ok := strings.Cut(f[1], ":")
	for _, n := range []struct {
		text string
		to   *int64
	}{{major, &r.Major}, {minor, &r.Minor}} {
		if n.text == "*" {
			*n.to = anyDevice
			continue
		}
		v, err := strconv.ParseUint(n.text, 10, 20)
		if err != nil || !ok {
			return DeviceRule{}, badValue(flag, value, form)
		}
		*n.to = int64(v)
	}
	return r, nil
}
