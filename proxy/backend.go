package proxy

import "context"

// Backend turns snapshots into what the kernel understands. Each mode is one.
type Backend interface {
	// Sync makes the node's rules be those of the snapshot. After an error the
	// next Sync starts from nothing it believes to know.
	Sync(ctx context.Context, snapshot *Snapshot) error
	// Check tells whether somebody else has taken the rules away since.
	Check(ctx context.Context) (intact bool, err error)
	// Cleanup removes every rule the backend has ever made.
	Cleanup(ctx context.Context) error
}

// Settler is a Backend whose Sync leaves something for packets that are on their
// way through the rules of before. Settle takes it away. It is called a moment
// after, when such packets are rare and nobody waits for the next Sync.
type Settler interface {
	Settle(ctx context.Context) error
}
