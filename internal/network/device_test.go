package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNamespace runs f in a new network namespace. Its thread ends with it.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// another makes one more network namespace and comes back from it.
func another() (*os.File, error) {
	mine, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer mine.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	other, err := os.Open("/proc/thread-self/ns/net")
	return other, errors.Join(err, unix.Setns(int(mine.Fd()), unix.CLONE_NEWNET))
}

func TestMoveDevice(t *testing.T) {
	inNamespace(t, func() error {
		other, err := another()
		if err != nil {
			return err
		}
		defer other.Close()
		ns := fmt.Sprintf("/proc/self/fd/%d", other.Fd())
		mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "v0", MTU: 1400, HardwareAddr: mac}, PeerName: "v1"}); err != nil {
			return fmt.Errorf("veth: %w", err)
		}
		v0, _ := netlink.LinkByName("v0")
		for _, a := range []string{"192.0.2.5/24", "2001:db8::5/64"} {
			addr, _ := netlink.ParseAddr(a)
			if err := netlink.AddrAdd(v0, addr); err != nil {
				return fmt.Errorf("address %s: %w", a, err)
			}
		}
		if err := MoveDevice("v0", "eth7", ns); err != nil {
			return err
		}
		if _, err := netlink.LinkByName("v0"); err == nil {
			t.Error("the device is still here")
		}
		if err := MoveDevice("none", "none", ns); err == nil || !strings.Contains(err.Error(), "none") {
			t.Errorf("a device that is not there: %v", err)
		}
		v1, _ := netlink.LinkByName("v1")
		netlink.LinkSetUp(v1)
		if err := MoveDevice("v1", "eth7", ns); err == nil || !strings.Contains(err.Error(), "eth7 is there already") {
			t.Errorf("a name that is taken: %v", err)
		}
		if v1, _ = netlink.LinkByName("v1"); v1 == nil || v1.Attrs().RawFlags&unix.IFF_UP == 0 {
			t.Errorf("what could not be moved is not as it was: %+v", v1)
		}
		if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		l, err := netlink.LinkByName("eth7")
		if err != nil {
			return err
		}
		if a := l.Attrs(); a.MTU != 1400 || a.HardwareAddr.String() != mac.String() || a.RawFlags&unix.IFF_UP == 0 {
			t.Errorf("attributes %+v", a)
		}
		addrs, _ := netlink.AddrList(l, netlink.FAMILY_ALL)
		var have []string
		for _, a := range addrs {
			have = append(have, a.IPNet.String())
		}
		if all := strings.Join(have, " "); !strings.Contains(all, "192.0.2.5/24") || !strings.Contains(all, "2001:db8::5/64") {
			t.Errorf("addresses %s", all)
		}
		return nil
	})
}
