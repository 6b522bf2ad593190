package proxytest

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// dispatchChains have no order of their own: kube-proxy writes their rules as
// its map of Services comes.
var dispatchChains = []string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"}

// NormaliseIPTables makes the output of iptables-save comparable: only what has to do
// with KUBE- chains, chains by name, dispatch chains by Service.
func NormaliseIPTables(saved string) string {
	var out strings.Builder
	for table := range strings.SplitSeq(saved, "COMMIT\n") {
		var name string
		chains, rules := []string{}, map[string][]string{}
		for line := range strings.Lines(table) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(line, "*"):
				name = line
			case strings.HasPrefix(line, ":KUBE-"):
				chains = append(chains, strings.Fields(line)[0]+" - [0:0]")
			case strings.HasPrefix(line, "-A "):
				chain := strings.Fields(line)[1]
				if strings.HasPrefix(chain, "KUBE-") || toOurs.MatchString(line) {
					rules[chain] = append(rules[chain], line)
				}
			}
		}
		if len(chains) == 0 && len(rules) == 0 {
			continue
		}
		slices.Sort(chains)
		out.WriteString(name + "\n" + strings.Join(chains, "\n") + "\n")
		for _, chain := range slices.Sorted(maps.Keys(rules)) {
			if slices.Contains(dispatchChains, chain) {
				sortDispatch(rules[chain])
			}
			out.WriteString(strings.Join(rules[chain], "\n") + "\n")
		}
		out.WriteString("COMMIT\n")
	}
	return out.String()
}

var (
	toOurs    = regexp.MustCompile(`-[jg] KUBE-`)
	firstWord = regexp.MustCompile(`--comment "?([^" ]+)`)
)

func sortDispatch(rules []string) {
	key := func(rule string) string {
		if strings.Contains(rule, "-j KUBE-NODEPORTS") {
			return "\xff" // stays last
		}
		if m := firstWord.FindStringSubmatch(rule); m != nil {
			return m[1]
		}
		return ""
	}
	slices.SortStableFunc(rules, func(a, b string) int { return strings.Compare(key(a), key(b)) })
}

// NormaliseNFTables makes the output of `nft list table` comparable: sets, maps
// and chains by kind and name, elements in order.
func NormaliseNFTables(listed string) string {
	var head, blocks []string
	var block strings.Builder
	for line := range strings.Lines(listed) {
		switch {
		case block.Len() > 0:
			block.WriteString(line)
			if line == "\t}\n" {
				blocks = append(blocks, normaliseBlock(block.String()))
				block.Reset()
			}
		case blockStart.MatchString(line):
			block.WriteString(line)
		case strings.TrimSpace(line) != "" && line != "}\n":
			head = append(head, line)
		}
	}
	slices.SortFunc(blocks, func(a, b string) int { return strings.Compare(blockKey(a), blockKey(b)) })
	return strings.Join(head, "") + strings.Join(blocks, "\n") + "}\n"
}

var (
	blockStart = regexp.MustCompile(`^\t(set|map|chain) (\S+)`)
	elements   = regexp.MustCompile(`(?s)\t\telements = \{(.*?)\}\n`)
	spaces     = regexp.MustCompile(`\s+`)
)

func blockKey(block string) string {
	m := blockStart.FindStringSubmatch(block)
	return map[string]string{"set": "0", "map": "1", "chain": "3"}[m[1]] + m[2]
}

func normaliseBlock(block string) string {
	m := elements.FindStringSubmatch(block)
	if m == nil || strings.HasPrefix(block, "\tchain") {
		return block
	}
	var list []string
	for element := range strings.SplitSeq(m[1], ",") {
		list = append(list, spaces.ReplaceAllString(strings.TrimSpace(element), " "))
	}
	slices.Sort(list)
	return strings.Replace(block, m[0], "\t\telements = { "+strings.Join(list, ",\n\t\t\t     ")+" }\n", 1)
}
