package controllers

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
)

// A merge patch says "these fields become so"; a strategic merge patch also knows that
// status.conditions is a list keyed by type, and touches only the one condition it names.
const (
	merge          = types.MergePatchType
	strategicMerge = types.StrategicMergePatchType
)

// mustJSON encodes a value built in this package of maps and API types, which always can be encoded.
func mustJSON(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", value, err)) //nolint:forbidigo // a mistake in this package, not of its input
	}
	return data
}
