import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Graph } from '../../cli/graph.js'

function draw(nodes: [id: string, ...parents: string[]][]): string[] {
  const graph = new Graph()
  return nodes.flatMap(([id, ...parents]) => {
    const { above, row, below } = graph.add(id, parents, '*')
    return [...above, `${row} ${id}`, ...below]
  })
}

test('one after the other', () => {
  assert.deepEqual(draw([['c', 'b'], ['b', 'a'], ['a']]), ['* c', '* b', '* a'])
})

test('two heads, and one version that continues both', () => {
  assert.deepEqual(draw([['c', 'a'], ['b', 'a'], ['a', '0'], ['0']]), [
    '* c',
    '| * b',
    '|/',
    '* a',
    '* 0'
  ])
  assert.deepEqual(draw([['m', 'b', 'c'], ['c', 'a'], ['b', 'a'], ['a']]), [
    '* m',
    '|\\',
    '| * c',
    '* | b',
    '|/',
    '* a'
  ])
})

test('far columns, free ones taken again, and parents that are not known', () => {
  const rows = draw([['d', 'a'], ['c', 'x'], ['b', 'a'], ['e', 'c2'], ['a'], ['f', 'e2']])
  assert.deepEqual(rows, [
    '* d',
    '| * c',
    '| | * b',
    '| | | * e',
    '|_|/  |',
    '* |   | a',
    '* |   | f'
  ])
})
