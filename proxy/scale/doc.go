// Package scale measures the proxy modes as clusters grow: what a full sync and
// a change cost, what a packet pays, and what a ClusterIP takes away from a
// direct connection. Figures are ratios of one run where the machine matters.
package scale
