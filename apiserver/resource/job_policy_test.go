package resource

import "testing"

func TestJobPoliciesRefused(t *testing.T) {
	const template = `template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}`
	const restarts = `template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: i}]}}`
	rule := func(text string) string { return `{podFailurePolicy: {rules: [` + text + `]}, ` + template + `}` }
	indexed := func(text string) string {
		return `{completionMode: Indexed, completions: 5, ` + text + `, ` + template + `}`
	}
	for spec, want := range map[string]string{
		rule(`{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}`):    "",
		rule(`{action: FailJob, onExitCodes: {operator: In, values: [1, 42]}}`):  "",
		rule(`{onPodConditions: [{type: DisruptionTarget}]}`):                    `spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]`,
		rule(`{action: Panic, onPodConditions: [{type: DisruptionTarget}]}`):     `spec.podFailurePolicy.rules[0].action: Unsupported value: "Panic": supported values: "Count", "FailIndex", "FailJob", "Ignore"`,
		rule(`{action: FailIndex, onPodConditions: [{type: DisruptionTarget}]}`): `spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set`,
		rule(`{action: Count}`): `spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required`,
		rule(`{action: Count, onExitCodes: {operator: In, values: [0]}}`):                              `spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator`,
		rule(`{action: Count, onExitCodes: {operator: In, values: [2, 1]}}`):                           `spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1]: must be ordered`,
		rule(`{action: Count, onExitCodes: {operator: In, values: [1, 1]}}`):                           `spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Duplicate value: 1`,
		rule(`{action: Count, onExitCodes: {operator: In}}`):                                           `spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: null: at least one value is required`,
		rule(`{action: Count, onExitCodes: {containerName: d, operator: In, values: [1]}}`):            `spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "d": must be one of the container or initContainer names in the pod template`,
		rule(`{action: Count, onPodConditions: [{type: X, status: Maybe}]}`):                           `spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"`,
		`{podFailurePolicy: {rules: []}, ` + restarts + `}`:                                            `spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified`,
		`{podReplacementPolicy: TerminatingOrFailed, podFailurePolicy: {rules: []}, ` + template + `}`: `spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"`,
		`{podReplacementPolicy: Never, ` + template + `}`:                                              `spec.podReplacementPolicy: Unsupported value: "Never": supported values: "Failed", "TerminatingOrFailed"`,
		`{backoffLimitPerIndex: 1, ` + template + `}`:                                                  `spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode`,
		indexed(`maxFailedIndexes: 1`):                                                                 `spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified`,
		indexed(`backoffLimitPerIndex: 1, maxFailedIndexes: 6`):                                        `spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions`,
		indexed(`backoffLimitPerIndex: 1, maxFailedIndexes: 5`):                                        "",
		indexed(`successPolicy: {rules: [{succeededIndexes: "0,2-4", succeededCount: 4}]}`):            "",
		indexed(`successPolicy: {rules: []}`):                                                          `spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified`,
		indexed(`successPolicy: {rules: [{}]}`):                                                        `spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified`,
		indexed(`successPolicy: {rules: [{succeededCount: 6}]}`):                                       `spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)`,
		indexed(`successPolicy: {rules: [{succeededIndexes: "1,2", succeededCount: 3}]}`):              `spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)`,
		indexed(`successPolicy: {rules: [{succeededIndexes: "2,1"}]}`):                                 `spec.successPolicy.rules[0].succeededIndexes: Invalid value: "2,1": error parsing succeededIndexes: non-increasing order, previous: 2, current: 1`,
		indexed(`successPolicy: {rules: [{succeededIndexes: "0-5"}]}`):                                 `spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-5": error parsing succeededIndexes: too large index: "5"`,
		indexed(`successPolicy: {rules: [{succeededIndexes: "a"}]}`):                                   `spec.successPolicy.rules[0].succeededIndexes: Invalid value: "a": error parsing succeededIndexes: cannot convert string to integer for index: "a"`,
	} {
		if got := firstError(t, Job, spec); got != want {
			t.Errorf("%s\n got %s\nwant %s", spec, got, want)
		}
	}
}
