package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

// ipam gives out the addresses of one subnet. Each address in use is a file
// named after it, whose content says who has it; files are what survives when
// a plugin process is killed, and `ls` is all one needs to look.
//
//	/var/lib/cni/podarium/podarium/10.244.1.5   {"containerID":"9f…","ifName":"eth0"}
//	/var/lib/cni/podarium/podarium/last         10.244.1.5
//	/var/lib/cni/podarium/podarium/lock         held while one is chosen
type ipam struct {
	dir    string
	subnet netip.Prefix
}

// owner is an attachment: one interface of one container.
type owner struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

func newIPAM(cfg *Config) *ipam {
	return &ipam{dir: filepath.Join(cfg.DataDir, cfg.Name), subnet: cfg.Subnet}
}

// allocate reserves the next free address after the one given out last, so
// that an address rests as long as possible before it is used again. An owner
// who has one already gets the same: an ADD that was interrupted is repeated.
func (i *ipam) allocate(who owner) (netip.Addr, error) {
	unlock, err := i.lock()
	if err != nil {
		return netip.Addr{}, err
	}
	defer unlock()
	taken, err := i.taken()
	if err != nil {
		return netip.Addr{}, err
	}
	for addr, by := range taken {
		if by == who {
			return addr, nil
		}
	}
	addr, ok := nextFree(i.subnet, i.last(), func(a netip.Addr) bool { _, used := taken[a]; return !used })
	if !ok {
		return netip.Addr{}, types.NewError(errAddressesExhausted,
			fmt.Sprintf("no free address in %s: all %d are in use", i.subnet, len(taken)), "see the files in "+i.dir)
	}
	return addr, i.reserve(addr, who)
}

// nextFree walks once around the subnet, beginning behind last. The network
// address, the gateway and the broadcast address are never given out.
func nextFree(subnet netip.Prefix, last netip.Addr, free func(netip.Addr) bool) (netip.Addr, bool) {
	first := subnet.Addr().Next().Next()
	count := 1<<(32-subnet.Bits()) - 3
	addr := first
	if subnet.Contains(last) && !last.Less(first) {
		addr = last.Next()
	}
	for range count {
		if !subnet.Contains(addr.Next()) { // addr is the broadcast address
			addr = first
		}
		if free(addr) {
			return addr, true
		}
		addr = addr.Next()
	}
	return netip.Addr{}, false
}

// reserve writes the owner's file in one step, for a half-written one would
// lose the address for ever.
func (i *ipam) reserve(addr netip.Addr, who owner) error {
	data, err := json.Marshal(who)
	if err != nil {
		return fmt.Errorf("reserve %s: %w", addr, err)
	}
	temp := filepath.Join(i.dir, ".new") // we hold the lock: nobody else writes it
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return fmt.Errorf("reserve %s: %w", addr, err)
	}
	if err := os.Rename(temp, filepath.Join(i.dir, addr.String())); err != nil {
		return fmt.Errorf("reserve %s: %w", addr, err)
	}
	// In place, for a half-written one does no harm: the search begins with the first address.
	if err := os.WriteFile(filepath.Join(i.dir, "last"), []byte(addr.String()), 0o600); err != nil {
		return fmt.Errorf("note %s as the last: %w", addr, err)
	}
	return nil
}

// release frees every address whose owner is not to be kept.
func (i *ipam) release(keep func(owner) bool) error {
	unlock, err := i.lock()
	if err != nil {
		return err
	}
	defer unlock()
	taken, err := i.taken()
	if err != nil {
		return err
	}
	for addr, by := range taken {
		if keep(by) {
			continue
		}
		if err := os.Remove(filepath.Join(i.dir, addr.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("release %s: %w", addr, err)
		}
	}
	return nil
}

// addressOf is the address an owner has, if any.
func (i *ipam) addressOf(who owner) (netip.Addr, bool, error) {
	taken, err := i.taken()
	if err != nil {
		return netip.Addr{}, false, err
	}
	for addr, by := range taken {
		if by == who {
			return addr, true, nil
		}
	}
	return netip.Addr{}, false, nil
}

// taken reads who has which address. A file that cannot be read keeps its
// address taken by nobody: better one address lost than one given out twice.
func (i *ipam) taken() (map[netip.Addr]owner, error) {
	entries, err := os.ReadDir(i.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read addresses in use: %w", err)
	}
	taken := map[netip.Addr]owner{}
	for _, entry := range entries {
		addr, err := netip.ParseAddr(entry.Name())
		if err != nil {
			continue // last, lock
		}
		var who owner
		if data, err := os.ReadFile(filepath.Join(i.dir, entry.Name())); err == nil {
			_ = json.Unmarshal(data, &who) // damaged: owned by nobody, until GC
		}
		taken[addr] = who
	}
	return taken, nil
}

func (i *ipam) last() netip.Addr {
	data, err := os.ReadFile(filepath.Join(i.dir, "last"))
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(string(data))
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// lock is flock(2) on a file: released by the kernel when the holder dies.
func (i *ipam) lock() (unlock func(), err error) {
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make address folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(i.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open address lock: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock addresses: %w", err)
	}
	return func() { file.Close() }, nil
}
