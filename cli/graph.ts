/**
 * Draws a DAG beside a list of its nodes, children before parents: a column for each line of
 * descent, as long as a parent on it is still to come.
 */
export class Graph {
  /** By column: the node that is to come on it; null: it is free. */
  readonly #columns: (string | null)[] = []

  /** What stands before a node, with `mark` in its column, and lines of mere edges above and below. */
  add(
    id: string,
    parents: readonly string[],
    mark: string
  ): { above: string[]; row: string; below: string[] } {
    const above: string[] = []
    const at = this.#place(id)
    for (const [column, waiting] of this.#columns.entries()) {
      if (column === at || waiting !== id) continue
      above.push(this.#edge(at, column, '/', [column]))
      this.#columns[column] = null
    }
    const row = this.#row((column) => (column === at ? mark : '|'), [at])
    const [first, ...others] = parents
    this.#columns[at] = first ?? null
    const below: string[] = []
    for (const parent of others) {
      const known = this.#columns.indexOf(parent)
      const column = known === -1 ? this.#free(at + 1) : known
      const isNew = known === -1
      below.push(this.#edge(at, column, column > at ? '\\' : '/', isNew ? [column] : []))
      this.#columns[column] = parent
    }
    while (this.#columns.length > 0 && this.#columns.at(-1) === null) this.#columns.pop()
    return { above, row, below }
  }

  #place(id: string): number {
    const known = this.#columns.indexOf(id)
    if (known !== -1) return known
    const column = this.#free(0)
    this.#columns[column] = id
    return column
  }

  #free(from: number): number {
    const found = this.#columns.indexOf(null, from)
    return found === -1 ? Math.max(this.#columns.length, from) : found
  }

  #row(sign: (column: number) => string, also: readonly number[] = []): string {
    const signs = this.#columns.map((waiting, column) =>
      waiting !== null || also.includes(column) ? sign(column) : ' '
    )
    return signs.join(' ').trimEnd()
  }

  /** A line from one column to another, beside those that go straight down; `hidden` do not. */
  #edge(from: number, to: number, sign: '/' | '\\', hidden: readonly number[]): string {
    const width = 2 * Math.max(this.#columns.length, to + 1)
    const signs = Array.from({ length: width }, (_, i): string => {
      const isDown = i % 2 === 0 && !hidden.includes(i / 2) && this.#columns[i / 2]
      return typeof isDown === 'string' ? '|' : ' '
    })
    const [left, right] = [2 * Math.min(from, to) + 1, 2 * Math.max(from, to) - 1]
    for (let i = left; i <= right; i++) if (signs[i] === ' ') signs[i] = '_'
    // It bends where it leaves the column that goes on.
    signs[sign === '\\' ? left : right] = sign
    return signs.join('').trimEnd()
  }
}
