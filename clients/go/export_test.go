package registry

import "time"

// SilenceOf shortens how long a server may say nothing.
func SilenceOf(length time.Duration) WatchOption {
	return func(f *follower) { f.silence = length }
}
