import type { Machine } from './machine.js'
import { METRICS, metricsOf, type MetricName } from './metrics.js'
import { OURS, type Figure, type PartReport, type Ratio, type TaskReport } from './report.js'

export interface Report {
  /** ISO 8601. */
  date: string
  machine: Machine
  software: string
  runs: number
  /** Version null: not present. */
  tools: { tool: string; version: string | null; how: string }[]
  parts: PartReport[]
}

/** The report as Markdown, for people. */
export function markdown(report: Report): string {
  const { machine, date, runs, tools, software, parts } = report
  const lines = [
    '# Results',
    '',
    `${software}, ${date.slice(0, 16).replace('T', ' ')} UTC. ` +
      `${machine.cores} × ${machine.cpu}, ${(machine.memory / 2 ** 30).toFixed(0)} GiB, ` +
      `Linux ${machine.kernel}, Node ${machine.node}. ` +
      `${runs === 1 ? 'One run' : `Medians of ${runs} runs, least to most in brackets`}; ` +
      'the tools take turns, run by run. MB are 10^6 bytes.',
    '',
    '| tool | version | set up |',
    '| --- | --- | --- |',
    ...tools.map(({ tool, version, how }) => `| ${tool} | ${version ?? 'not present'} | ${how} |`)
  ]
  for (const part of parts) lines.push('', ...partLines(part))
  const lost = parts.flatMap(losses)
  lines.push('', '## Where it loses', '')
  lines.push(...(lost.length > 0 ? lost : ['Nowhere, in these parts on this machine.']))
  return lines.join('\n') + '\n'
}

function partLines({ part, data, notes, tasks }: PartReport): string[] {
  const lines = [`## ${part}`, '', `${data}.`]
  for (const task of tasks) lines.push('', `### ${task.task}`, '', ...taskLines(task))
  if (notes.length > 0) lines.push('', ...notes.map((note) => `- ${note}`))
  return lines
}

function taskLines({ tools, ratios }: TaskReport): string[] {
  const shown = new Set(tools.flatMap(({ figures }) => metricsOf(zeros(figures))))
  const metrics = [...shown]
  const lines = [
    `| | ${metrics.map((metric) => METRICS[metric].title).join(' | ')} |`,
    `| --- |${' ---: |'.repeat(metrics.length)}`
  ]
  for (const { tool, figures } of tools) {
    lines.push(
      `| ${tool} | ${metrics.map((metric) => cell(metric, figures[metric])).join(' | ')} |`
    )
  }
  if (ratios.length > 0) {
    const byMetric = new Map(ratios.map((ratio) => [ratio.metric, ratio]))
    const cells = metrics.map((metric) => ratioCell(byMetric.get(metric)))
    lines.push(`| ${OURS} ÷ best peer | ${cells.join(' | ')} |`)
  }
  return lines
}

function cell(metric: MetricName, figure: Figure | undefined): string {
  if (figure === undefined) return ''
  const { median, min, max, runs } = figure
  const text = number(metric, median)
  return runs.length === 1 ? text : `${text} (${number(metric, min)}–${number(metric, max)})`
}

function number(metric: MetricName, value: number): string {
  const { digits, scale } = METRICS[metric]
  return (value / scale).toFixed(digits)
}

function ratioCell(ratio: Ratio | undefined): string {
  if (ratio === undefined) return ''
  const text = `${ratio.ratio.toFixed(2)} of ${ratio.against}'s`
  return ratio.isMet ? text : `**${text}**`
}

function losses({ part, tasks }: PartReport): string[] {
  return tasks.flatMap(({ task, ratios }) =>
    ratios
      .filter(({ isMet }) => !isMet)
      .map(({ metric, ratio, against, goal }) => {
        const { title, isMore } = METRICS[metric]
        const word = isMore ? 'at least' : 'at most'
        return `- ${part}, ${task}: ${title} is ${ratio.toFixed(2)} of ${against}'s (goal: ${word} ${goal}).`
      })
  )
}

function zeros(figures: Partial<Record<MetricName, Figure>>): Record<string, number> {
  return Object.fromEntries(Object.keys(figures).map((metric) => [metric, 0]))
}
