package registry

import "time"

// SilenceOf shortens how long a server may say nothing.
func SilenceOf(length time.Duration) WatchOption {
	return func(f *follower) { f.silence = length }
}

// CoalescingSeen is WithCoalescing, and how many calls wait to be made.
func CoalescingSeen() (Option, func() int) {
	seen := newJoining()
	waiting := func() (count int) {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		for _, gathering := range seen.gatherings {
			count += len(gathering.queue)
		}
		return count
	}
	return func(o *options) { o.joining = seen }, waiting
}
