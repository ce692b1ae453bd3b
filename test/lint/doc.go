// Package lint holds the rules of the house as tests: who may import whom, what every
// package must explain, which calls are banned where, and how long a file may grow.
//
// It reads source text only (no type checking), so that the whole package runs in a second
// or two. Each rule is data in the file that checks it; a failure says what to do. It owns
// no code that the server runs and nothing imports it.
package lint
