package demo

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// serviceRules are the rules of one Service, in the order a packet meets them.
type serviceRules struct {
	portal    string            // the rule in KUBE-SERVICES
	chain     string            // KUBE-SVC-…
	balance   []string          // the rules in it
	endpoints []string          // KUBE-SEP-… in the order they are tried
	dnat      map[string]string // its DNAT rule, by KUBE-SEP-…
}

// readRules finds a Service's rules in the text of iptables-save -t nat, by
// its ClusterIP, as a packet does.
func readRules(saved, clusterIP string) (serviceRules, error) {
	rules := serviceRules{dnat: map[string]string{}}
	lines := strings.Split(saved, "\n")
	for _, line := range lines {
		if strings.HasPrefix(line, "-A KUBE-SERVICES -d "+clusterIP+"/32 ") {
			rules.portal, rules.chain = line, target(line)
		}
	}
	if rules.chain == "" {
		return rules, fmt.Errorf("KUBE-SERVICES has no rule for %s", clusterIP)
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "-A "+rules.chain+" ") {
			rules.balance = append(rules.balance, line)
			if sep := target(line); strings.HasPrefix(sep, "KUBE-SEP-") {
				rules.endpoints = append(rules.endpoints, sep)
			}
		}
	}
	for _, line := range lines {
		chain, _, _ := strings.Cut(strings.TrimPrefix(line, "-A "), " ")
		if slices.Contains(rules.endpoints, chain) && strings.Contains(line, "-j DNAT") {
			rules.dnat[chain] = line
		}
	}
	return rules, nil
}

var (
	targetPattern      = regexp.MustCompile(` -j (\S+)`)
	probabilityPattern = regexp.MustCompile(`--probability (\S+)`)
	destinationPattern = regexp.MustCompile(`--to-destination (\S+)`)
)

func target(rule string) string { return firstGroup(targetPattern, rule) }

// destinations are the endpoints' addresses, in the order they are tried.
func (r serviceRules) destinations() []string {
	var list []string
	for _, sep := range r.endpoints {
		list = append(list, firstGroup(destinationPattern, r.dnat[sep]))
	}
	return list
}

// probabilities are those of the cascade; the last endpoint takes the rest and
// has none.
func (r serviceRules) probabilities() []string {
	var list []string
	for _, rule := range r.balance {
		if p := firstGroup(probabilityPattern, rule); p != "" {
			list = append(list, p)
		}
	}
	return list
}

// cascade is what probabilities should be for n endpoints: each rule is only
// met by what the rules before it let pass, so 1/n, 1/(n-1), … 1/2.
func cascade(n int) []string {
	var list []string
	for left := n; left > 1; left-- {
		list = append(list, fmt.Sprintf("%.5f", 1/float64(left)))
	}
	return list
}

// sameCascade compares to five digits: iptables keeps 31 bits and prints them
// back with its own rounding.
func sameCascade(got []string, n int) bool {
	want := cascade(n)
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		var p float64
		if _, err := fmt.Sscanf(got[i], "%f", &p); err != nil || fmt.Sprintf("%.5f", p) != want[i] {
			return false
		}
	}
	return true
}

func firstGroup(pattern *regexp.Regexp, text string) string {
	if m := pattern.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}
