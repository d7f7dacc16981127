// Package queuetest holds the suite that every driver of the queue seam must pass (Run), and a driver that wraps another
// one and misbehaves in every way that the contract allows (Chaos), for tests of those who use a queue.
//
// The suite holds a driver to package queue's contract and to nothing more: repeats are accepted wherever the contract
// allows them. What a driver promises beyond it is declared in its Harness and then held to as well; what it declares
// not to know is named in the log of the test that would look at it.
//
// Goroutines: the tests' own publishers and receivers, each waited for by its test. Chaos starts none.
package queuetest
