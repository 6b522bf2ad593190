package nftables

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What is in the table is asked of the kernel itself: `nft list` would also read
// every element and every rule's content, which with 5000 Services takes half a
// second and more, and only names and handles are needed.

// list reads the names of what is in the table, and its rules' handles; nothing
// when there is no table.
func list(f family) (existing, error) {
	have := existing{rules: handles{}}
	err := errors.Join(
		dump(f, unix.NFT_MSG_GETCHAIN, "", func(a attributes) {
			have.chains = append(have.chains, a.text(unix.NFTA_CHAIN_NAME))
		}),
		dump(f, unix.NFT_MSG_GETSET, "", func(a attributes) {
			switch flags := a.number(unix.NFTA_SET_FLAGS); {
			case flags&unix.NFT_SET_ANONYMOUS != 0: // a rule's own
			case flags&unix.NFT_SET_MAP != 0:
				have.maps = append(have.maps, a.text(unix.NFTA_SET_NAME))
			default:
				have.sets = append(have.sets, a.text(unix.NFTA_SET_NAME))
			}
		}),
		dump(f, unix.NFT_MSG_GETRULE, "", have.rules.add),
	)
	return have, err
}

// rulesOf reads the handles of some chains' rules.
func rulesOf(f family, chains []string) (handles, error) {
	found := handles{}
	for _, name := range chains {
		if err := dump(f, unix.NFT_MSG_GETRULE, name, found.add); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (h handles) add(rule attributes) {
	chain := rule.text(unix.NFTA_RULE_CHAIN)
	h[chain] = append(h[chain], rule.number(unix.NFTA_RULE_HANDLE))
}

// attributes are an answer's, by type.
type attributes map[uint16][]byte

func (a attributes) text(kind uint16) string { return nl.BytesToString(a[kind]) }

// number is 0 where the kernel has left it out.
func (a attributes) number(kind uint16) (n uint64) {
	for _, octet := range a[kind] { // big end first
		n = n<<8 | uint64(octet)
	}
	return n
}

// dump asks for all objects of a kind in the table; rules also of one chain.
// The kernel notes when somebody has changed any table meanwhile; then it is
// asked again.
func dump(f family, kind int, chain string, each func(attributes)) error {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: f.number, Version: nl.NFNETLINK_V0})
	// NFTA_CHAIN_TABLE and NFTA_SET_TABLE are the same number.
	request.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(table)))
	if chain != "" {
		request.AddData(nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated(chain)))
	}
	messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	for errors.Is(err, nl.ErrDumpInterrupted) {
		messages, err = request.Execute(unix.NETLINK_NETFILTER, 0)
	}
	if errors.Is(err, unix.ENOENT) { // no such table
		return nil
	}
	if err != nil {
		return fmt.Errorf("list table %s: %w", f.table(), err)
	}
	for _, message := range messages {
		list, err := nl.ParseRouteAttr(message[nl.SizeofNfgenmsg:])
		if err != nil {
			return fmt.Errorf("read table %s: %w", f.table(), err)
		}
		object := attributes{}
		for _, a := range list {
			object[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
		}
		if object.text(unix.NFTA_RULE_TABLE) == table { // chains come of all tables
			each(object)
		}
	}
	return nil
}

// hasChain tells whether the table is there and has a chain.
func hasChain(f family, name string) (bool, error) {
	var names []string
	err := dump(f, unix.NFT_MSG_GETCHAIN, "", func(a attributes) { names = append(names, a.text(unix.NFTA_CHAIN_NAME)) })
	return slices.Contains(names, name), err
}

// waitForPackets returns when every packet that is under way in the kernel now
// has left the hook it is in: the kernel walks rules within an RCU read section,
// and membarrier(2) waits until all that have begun are over.
func waitForPackets() error {
	const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		return fmt.Errorf("membarrier: %w", errno)
	}
	return nil
}
