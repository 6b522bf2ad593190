package dns

import (
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// loopZone holds names nobody else asks for.
const loopZone = ".loop.podarium."

// loops finds upstreams which lead back here: a resolv.conf that names the
// cluster's own DNS, or a resolver which does. Without it one question would
// be forwarded round and round until all sockets are in use. Each upstream is
// asked once for a name made up for it; if that question arrives here, it is
// the upstream that sent it.
type loops struct{ tokens sync.Map } // name → *upstream

// check asks all upstreams of a new list.
func (f *forwarder) checkLoops(upstreams []*upstream) {
	for _, u := range upstreams {
		name := strings.ToLower(rand.Text()) + loopZone
		f.loops.tokens.Store(name, u)
		go func() {
			defer f.loops.tokens.Delete(name)
			if _, err := u.ask(f.ctx, new(dns.Msg).SetQuestion(name, dns.TypeHINFO)); err != nil {
				slog.Debug("upstream not checked for a loop", "upstream", u.address, "err", err)
			}
		}()
	}
}

// came is called with the name of a question on its way upstream.
func (l *loops) came(name string) bool {
	if !strings.HasSuffix(strings.ToLower(name), loopZone) {
		return false
	}
	u, ours := l.tokens.Load(strings.ToLower(name))
	if !ours {
		return false
	}
	if found := u.(*upstream); found.looping.CompareAndSwap(false, true) {
		slog.Error("upstream leads back here and is not used: let --resolv-conf name a file with resolvers outside of the cluster", "upstream", found.address)
	}
	return true
}
