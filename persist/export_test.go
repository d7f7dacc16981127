package persist

// HoldAtMost makes the bound of what is held of home shards that fail, in bytes, another one. Before Start.
func (p *Persist) HoldAtMost(bytes int) { p.heldMax = bytes }
