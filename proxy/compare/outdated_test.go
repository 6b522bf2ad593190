package compare

import (
	"regexp"
	"testing"

	"github.com/podarium/podarium/proxy/proxytest"
)

// outdated is what kube-proxy's nftables mode leaves: chains, for a while, to which
// nothing leads any more; and the comment of an element, with the name of the
// Service port which had the address first.
var outdated = regexp.MustCompile(`(?m)^\tchain \S+ \{\n\t\}\n| comment "[^"]*"( : )`)

// withoutOutdated is a table of nftables mode, made comparable.
func withoutOutdated(listed string) string {
	return proxytest.NormaliseNFTables(outdated.ReplaceAllString(listed, "$1"))
}

func TestWithoutOutdated(t *testing.T) {
	const theirs = `table ip kube-proxy {
	map no-endpoint-services {
		comment "vmap to drop or reject packets to services with no endpoints"
		elements = { 203.0.113.9 . tcp . 53 comment "other/s2:p1" : goto reject-chain,
			     10.97.0.12 . tcp . 443 comment "default/s12:p2" : goto reject-chain }
	}

	chain local-DDKZPD5Y-default/s21/tcp/ {
	}

	chain reject-chain {
		reject
	}
}
`
	const want = `table ip kube-proxy {
	map no-endpoint-services {
		comment "vmap to drop or reject packets to services with no endpoints"
		elements = { 10.97.0.12 . tcp . 443 : goto reject-chain,
			     203.0.113.9 . tcp . 53 : goto reject-chain }
	}

	chain reject-chain {
		reject
	}
}
`
	if got := withoutOutdated(theirs); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
