import { goalOf } from './goals.js'
import { METRICS, metricsOf, type MetricName, type Values } from './metrics.js'

/** Our rows are those of tools whose name begins like this. */
export const OURS = 'hyperparcel'

export interface Figure {
  median: number
  min: number
  max: number
  runs: number[]
}

/** Our figure over the best peer's. */
export interface Ratio {
  metric: MetricName
  against: string
  ratio: number
  goal: number | null
  isMet: boolean
}

export interface TaskReport {
  task: string
  tools: { tool: string; figures: Partial<Record<MetricName, Figure>> }[]
  ratios: Ratio[]
}

export interface PartReport {
  part: string
  /** What was measured on, in one line. */
  data: string
  /** What a reader must know to compare fairly. */
  notes: string[]
  tasks: TaskReport[]
}

/** Gathers what runs gave, in the order in which tasks and tools first came. */
export class Results {
  readonly #tasks = new Map<string, Map<string, Values[]>>()

  add(task: string, tool: string, values: Values): void {
    const tools = this.#tasks.get(task) ?? new Map<string, Values[]>()
    this.#tasks.set(task, tools)
    tools.set(tool, [...(tools.get(tool) ?? []), values])
  }

  report(part: string, data: string, notes: string[]): PartReport {
    const tasks = [...this.#tasks].map(([task, byTool]) => {
      const tools = [...byTool].map(([tool, runs]) => ({ tool, figures: figuresOf(runs) }))
      return { task, tools, ratios: ratiosOf(tools) }
    })
    return { part, data, notes, tasks }
  }
}

function figuresOf(runs: readonly Values[]): Partial<Record<MetricName, Figure>> {
  const figures: Partial<Record<MetricName, Figure>> = {}
  for (const metric of new Set(runs.flatMap(metricsOf))) {
    const values = runs.flatMap((run) => run[metric] ?? [])
    const sorted = values.toSorted((a, b) => a - b)
    const middle = sorted.slice((sorted.length - 1) >> 1, (sorted.length >> 1) + 1)
    figures[metric] = {
      median: middle.reduce((sum, value) => sum + value, 0) / middle.length,
      min: Math.min(...sorted),
      max: Math.max(...sorted),
      runs: values
    }
  }
  return figures
}

function ratiosOf(tools: TaskReport['tools']): Ratio[] {
  const ours = tools.find(({ tool }) => tool === OURS)
  const peers = tools.filter(({ tool }) => !tool.startsWith(OURS))
  const ratios: Ratio[] = []
  for (const [metric, { median }] of entriesOf(ours?.figures ?? {})) {
    const { isMore } = METRICS[metric]
    const known = peers.flatMap(({ tool, figures }) => {
      const figure = figures[metric]
      return figure === undefined ? [] : [{ tool, median: figure.median }]
    })
    const [best] = known.toSorted((a, b) => (isMore ? b.median - a.median : a.median - b.median))
    if (best === undefined || best.median === 0) continue
    const ratio = median / best.median
    const goal = goalOf(metric)
    // As it is printed, or the table would contradict itself.
    const shown = Number(ratio.toFixed(2))
    const isMet = goal === null || (isMore ? shown >= goal : shown <= goal)
    ratios.push({ metric, against: best.tool, ratio, goal, isMet })
  }
  return ratios
}

function entriesOf(figures: Partial<Record<MetricName, Figure>>): [MetricName, Figure][] {
  return metricsOf(mapOf(figures)).flatMap((metric) => {
    const figure = figures[metric]
    return figure === undefined ? [] : [[metric, figure] as [MetricName, Figure]]
  })
}

function mapOf(figures: Partial<Record<MetricName, Figure>>): Values {
  return Object.fromEntries(Object.keys(figures).map((metric) => [metric, 0]))
}
